"""The Dockerfile, read: its stages, and what a target's image has from the stages below it."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("server-cpu", "server-gpu", "export")
SERVERS = TARGETS[:2]


@dataclass(frozen=True)
class Instruction:
    """`word` in capitals, `rest` with its continued lines joined."""

    word: str
    rest: str

    @property
    def argv(self) -> list[str] | None:
        """The JSON list that `rest` is, or that follows its `CMD`; None in shell form."""
        found = re.search(r"^(?:.*?\bCMD\s+)?(\[.*\])$", self.rest)
        return [str(word) for word in json.loads(found[1])] if found else None

    @property
    def pairs(self) -> dict[str, str]:
        """Of ENV, LABEL and ARG."""
        return dict(word.partition("=")[::2] for word in shlex.split(self.rest))


@dataclass(frozen=True)
class Stage:
    name: str
    base: str
    instructions: tuple[Instruction, ...]


class Dockerfile:
    """Of the text given, as it is built with these build arguments in place of their defaults."""

    def __init__(self, text: str, **arguments: str) -> None:
        lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        parts = (line.strip().partition(" ") for line in re.sub(r"\\\n\s*", " ", lines).splitlines() if line.strip())
        self.instructions = [Instruction(word.upper(), rest.strip()) for word, _, rest in parts]
        starts = [index for index, found in enumerate(self.instructions) if found.word == "FROM"]
        self._defaults = {
            name: value for found in self.instructions[: starts[0]] for name, value in found.pairs.items()
        } | arguments
        self.stages: dict[str, Stage] = {}
        for start, end in zip(starts, [*starts[1:], None], strict=True):
            base, _, name = self.instructions[start].rest.partition(" AS ")
            self.stages[name] = Stage(name, self._filled(base), tuple(self.instructions[start + 1 : end]))

    def _filled(self, text: str) -> str:
        """With the build arguments in place of their names."""
        return re.sub(r"\$\{(\w+)\}", lambda found: self._defaults[found[1]], text)

    def images(self) -> set[str]:
        """What the stages stand on that is not a stage."""
        return {stage.base for stage in self.stages.values()} - set(self.stages)

    def chain(self, target: str) -> Iterator[Stage]:
        """The stages that an image of `target` is made of, the lowest first."""
        stage = self.stages[target]
        if stage.base in self.stages:
            yield from self.chain(stage.base)
        yield stage

    def all_of(self, target: str, word: str) -> list[Instruction]:
        """What the image of `target` has of this instruction, the one that counts last."""
        return [found for stage in self.chain(target) for found in stage.instructions if found.word == word]

    def last(self, target: str, word: str) -> Instruction:
        """The one that counts.

        Raises:
            LookupError: the image has none.
        """
        found = self.all_of(target, word)
        if not found:
            raise LookupError(f"{target} has no {word}")
        return found[-1]

    def environment(self, target: str) -> dict[str, str]:
        """The variables that the image sets."""
        return {name: value for found in self.all_of(target, "ENV") for name, value in found.pairs.items()}

    def labels(self, target: str) -> dict[str, str]:
        """With the defaults of the build arguments in place of their names."""
        arguments = {name: value for found in self.all_of(target, "ARG") for name, value in found.pairs.items()}
        labels = {name: value for found in self.all_of(target, "LABEL") for name, value in found.pairs.items()}
        return {name: re.sub(r"\$\{(\w+)\}", lambda m: arguments[m[1]], value) for name, value in labels.items()}

    def extras(self, target: str) -> set[str]:
        """Of pyproject.toml: those that the environment copied into the image was installed with."""
        lists = re.findall(r'"\$1\[([^]]+)\]"', self.installation(target))
        return {extra for listed in lists for extra in listed.split(",")}

    def installation(self, target: str) -> str:
        """The commands that filled the environment copied into the image, with the build arguments filled in.

        Raises:
            LookupError: a stage uses a build argument that it does not declare, which is empty there.
        """
        sources = (re.match(r"--from=(\S+)", copy.rest) for copy in self.all_of(target, "COPY"))
        commands = []
        for source in filter(None, sources):
            declared = {name for found in self.all_of(source[1], "ARG") for name in found.pairs}
            for run in self.all_of(source[1], "RUN"):
                if undeclared := set(re.findall(r"\$\{(\w+)\}", run.rest)) - declared:
                    raise LookupError(f"{source[1]} does not declare {', '.join(undeclared)}")
                commands.append(self._filled(run.rest))
        return "\n".join(commands)


def shipped() -> str:
    """The text of the project's own."""
    return (ROOT / "Dockerfile").read_text()
