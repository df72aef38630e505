"""Which engine runs a graph on the CPU: measured, never guessed.

Candidates are ONNX Runtime in float32 and others. When a graph is loaded for the first time, each of the others shows

1. parity with ONNX Runtime on fixed inputs: images at least MIN_PSNR_DB and never more than MAX_LEVELS away,
2. the same bytes for an item alone and in every batch, on one lane or several or with the whole device,
3. that it is faster: by GAIN in the mean (geometric) of the setups that serve (image sizes, batch sizes, lanes), and in
   none of them slower by more than LOSS.

The fastest serves; if none is faster, ONNX Runtime. The choice is kept in the engine cache (`KeptChoices`), by graph,
processor, lanes, threads and versions. Comparing and measuring take half of `warmup_s` at most.
"""

import contextlib
import importlib.metadata
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from server.engines.base import Engine
from server.engines.processor import read_processor
from server.environment import instruction_set_cap
from server.errors import StartError
from server.repository.cpu.contest import Candidate, Contest
from server.repository.cpu.kept import Choice, KeptChoices
from server.repository.cpu.pace import Pace
from server.repository.cpu.subject import RunFailed, open_within
from server.repository.model_version import ModelVersion
from server.settings import Settings

# Rises when the rules change: what was kept under others is measured anew.
RULES = 4

log = logging.getLogger(__name__)


class CpuChooser:
    """Opens graphs on the CPU in the engine that suits them. Any thread."""

    def __init__(
        self,
        settings: Settings,
        lanes: int,
        threads: int,
        reference: Candidate,
        busy_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`lanes`, `threads`: of the CPU. `reference`: ONNX Runtime in float32, which others are compared with.
        `busy_s`: see `Pace`."""
        self._settings = settings
        self._lanes = lanes
        self._threads = threads
        self._reference = reference
        self._kept = KeptChoices(settings.cache_folder / "cpu")
        self._turn = threading.Lock()  # two measurements at once would measure each other
        self._pace = Pace(busy_s)

    def stop(self) -> None:
        """Ends what is being measured: the reference serves what is opened from now on."""
        self._pace.stop()

    def open(
        self, version: ModelVersion, file_name: str, batched: bool, candidates: Sequence[Candidate]
    ) -> tuple[Engine, Choice]:
        """The graph in one of `candidates`, and why: the first, unless another one is better. Blocks.

        Raises:
            StartError: the reference cannot open the graph.
            NotServing: the first candidate is not the reference, and its values are not those of the reference.
        """
        path = version.folder / file_name
        first = candidates[0]
        if list(candidates) == [self._reference]:
            return first.open(path, batched), Choice(first.engine, first.precision)
        facts = self._facts(version, file_name, batched, candidates)
        key = KeptChoices.key_of(facts)
        kept = self._open_kept(key, path, batched, candidates)
        if kept is not None:
            return kept
        started_s = time.monotonic()
        contest = Contest(version, file_name, batched, self._settings, self._lanes, self._kept, key, self._pace)
        contest.is_lasting = self._kept.read(key) is None  # what cannot be opened now may be another day, or elsewhere
        # as the model's config has it, if it may serve
        reference = next((each for each in candidates if each == self._reference), self._reference)
        engine, choice = contest.run(reference, candidates, self._turn)
        fields = {"model": version.name, "version": version.version, **asdict(choice), "items_per_s": contest.figures}
        seconds = round(time.monotonic() - started_s, 3)
        log.info("engine chosen", extra={"fields": {**fields, "seconds": seconds}})
        if contest.is_complete:
            self._keep(key, {**facts, "items_per_s": contest.figures}, choice, contest.is_lasting)
        return engine, choice

    def _keep(self, key: str, facts: Mapping[str, object], choice: Choice, is_lasting: bool) -> None:
        try:
            self._kept.write(key, facts, choice, is_lasting)
            if is_lasting:
                self._kept.forget_crashes(key)
        except OSError as error:
            reason = f"{self._kept.folder}: {error.strerror}; --engine-cache sets the folder"
            log.warning("choice of an engine not kept", extra={"fields": {"reason": reason}})

    def _open_kept(
        self, key: str, path: Path, batched: bool, candidates: Sequence[Candidate]
    ) -> tuple[Engine, Choice] | None:
        choice = self._kept.read(key)
        if choice is None:
            return None
        chosen = [each for each in candidates if (each.engine, each.precision) == (choice.engine, choice.precision)]
        if not chosen or (chosen[0] != self._reference and self._kept.why_skipped(key, chosen[0].label)):
            return None
        try:
            return self._open_marked(chosen[0], key, path, batched), choice
        except (StartError, RunFailed) as error:
            log.warning("kept choice of an engine not opened", extra={"fields": {"reason": str(error)}})
            return None

    def _open_marked(self, candidate: Candidate, key: str, path: Path, batched: bool) -> Engine:
        """The graph in the candidate that was chosen once. Opening it may crash or hang this time: so it leaves a mark,
        except in a folder that can only be read, and has the limit of a run; not the reference, which would serve in
        any case.

        Raises:
            StartError: the reference cannot open it.
            RunFailed: another candidate cannot.
        """
        if candidate == self._reference:
            return candidate.open(path, batched)
        with contextlib.ExitStack() as mark:
            with contextlib.suppress(OSError):
                mark.enter_context(self._kept.trying(key, candidate.label))
            engine = open_within(lambda: candidate.open(path, batched), self._settings.hang_timeout_s)
        with contextlib.suppress(OSError):
            self._kept.forget_crashes(key)
        return engine

    def _facts(
        self, version: ModelVersion, file_name: str, batched: bool, candidates: Sequence[Candidate]
    ) -> dict[str, object]:
        """What a choice depends on."""
        processor = read_processor()
        packages = {each.distribution for each in (self._reference, *candidates)}
        return {
            "rules": RULES,
            "sha256": {name: version.sha256(name) for name in _files(version.folder, file_name)},
            "max_batch_size": version.max_batch_size if batched else 0,
            "candidates": [str(candidate) for candidate in candidates],
            "options": [candidate.options for candidate in candidates],
            "processor": processor.name,
            "instructions": sorted(processor.flags),
            "instruction_set_cap": instruction_set_cap(),
            "lanes": self._lanes,
            "threads": self._threads,
            "versions": {name: _version(name) for name in sorted(packages)},
            "warmup_s": self._settings.warmup_s,
        }


def _files(folder: Path, file_name: str) -> list[str]:
    """The graph and what may be its weights: files beside it and below."""
    around = (folder / file_name).parent.rglob("*")
    found = (each for each in around if each.suffix not in (".plan", ".json", ".pbtxt") and each.is_file())
    return sorted(each.relative_to(folder).as_posix() for each in found)


def _version(distribution: str) -> str:
    for name in (distribution, f"{distribution}-gpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""
