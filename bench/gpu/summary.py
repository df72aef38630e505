"""How the parts of `make gpu-check` ended, as JSON and Markdown. Needs nothing installed."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.files import write_whole

_FOLDERS = re.compile(r"(?<![\w:/.])/(?:[\w.+-]+/)+")


def without_folders(text: str) -> str:
    """The text with absolute paths cut down to their last part: results are read on other machines."""
    return _FOLDERS.sub("", text)


@dataclass(frozen=True)
class Ended:
    """How a part ended: `right` if by itself, and with nothing wrong."""

    part: str
    right: bool
    how: str
    seconds: float
    limit_s: float
    last_line: str


@dataclass
class Summary:
    """What became of the whole command. `left_out`: of the kit, and why."""

    path: Path
    device: str
    seconds: float
    left_out: list[str] = field(default_factory=list)
    parts: list[Ended] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # parts that have not ended

    def write(self) -> None:
        """JSON, and Markdown beside it."""
        facts = {key: value for key, value in asdict(self).items() if key != "path"}
        write_whole(self.path, json.dumps(facts, indent=1) + "\n")
        lines = [f"# gpu-check on {self.device}", ""]
        if self.device == "cpu":
            lines += ["**A rehearsal on a CPU: no figure of it is a GPU's.**", ""]
        lines += ["| part | ended as it must | how | s | limit s | its last line |", "|---|---|---|---:|---:|---|"]
        for each in self.parts:
            yes = "yes" if each.right else "NO"
            cells = (each.part, yes, each.how, f"{each.seconds:.0f}", f"{each.limit_s:.0f}", each.last_line)
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        lines += [f"| {name} | NO | not ended | | | |" for name in self.missing]
        lines += ["", *(f"- left out of the kit: {said}" for said in self.left_out)]
        write_whole(self.path.with_suffix(".md"), "\n".join(lines).rstrip() + "\n")
