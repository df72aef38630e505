"""The candidates for one graph against each other: who may serve at all, and who of them is fastest."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import geometric_mean

from server.engines.base import Engine
from server.errors import NotServing
from server.repository.cpu.kept import Choice, KeptChoices
from server.repository.cpu.pace import Pace
from server.repository.cpu.speed import MIN_ROUNDS, Speeds
from server.repository.cpu.subject import GivenUp, Hung, RunFailed, Subject, open_within
from server.repository.cpu.trial import Finding, Trial
from server.repository.model_version import ModelVersion
from server.settings import Settings

# What a candidate must gain over the first one in the mean of the setups, and what it may lose in one of them.
GAIN = 1.05
LOSS = 0.95
# The gain that is enough if the time sufficed for fewer rounds than MIN_ROUNDS.
HASTY_GAIN = 1.5
# Of an installation or a moment, not of the graph.
PASSING = (ImportError, OSError, MemoryError)
# Share of warmup_s for all this; the rest is for warming what was chosen.
TIME_SHARE = 0.5
# Share of that for measuring; the rest is for opening and comparing.
MEASURED_SHARE = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """An engine in one precision.

    `open(path, batched)` may raise StartError. `distribution`: the package whose version counts. `options`: what else
    the choice depends on.
    """

    engine: str
    precision: str
    distribution: str
    open: Callable[[Path, bool], Engine] = field(compare=False)
    options: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"

    @property
    def label(self) -> str:
        """Its name in names of files."""
        return f"{self.engine}-{self.precision}"


class Contest:
    """One contest for one graph.

    `is_complete`: whether it came to an end and may be kept. `is_lasting`: whether it would end the same another time:
    it had enough time, no run hung, no candidate was skipped, and none was turned down by figures of a busy machine.
    `figures`: items per second by candidate and setup.
    """

    def __init__(
        self,
        version: ModelVersion,
        file_name: str,
        batched: bool,
        settings: Settings,
        lanes: int,
        kept: KeptChoices,
        key: str,
        pace: Pace,
    ) -> None:
        """`kept`, `key`: where marks of what is tried are left. `pace`: may end it early."""
        self.is_complete = self.is_lasting = True
        self.figures: dict[str, dict[str, float]] = {}
        self._version = version
        self._path = version.folder / file_name
        self._batched = batched
        self._limit_s = settings.hang_timeout_s
        self._budget_s = settings.warmup_s * TIME_SHARE
        self._until = 0.0  # the phase that is in progress ends
        self._lanes = lanes
        self._kept = kept
        self._key = key
        self._pace = pace
        self._subjects: dict[Candidate, Subject] = {}  # those that are open and may serve
        self._why: list[str] = []
        self._note = ""

    def run(self, reference: Candidate, candidates: Sequence[Candidate], turn: threading.Lock) -> tuple[Engine, Choice]:
        """The winner, open, and why it is; all others are closed. See `CpuChooser.open`.

        `turn`: held while engines are compared and measured, which has a limit of time; not while the reference is
        opened, which has none.
        """
        compared = Subject(reference.open(self._path, self._batched), self._lanes, self._limit_s)
        winner: Subject | None = None
        try:
            with turn:
                fastest = self._compete(reference, compared, candidates)
            self.is_lasting &= not any(each.was_stopped for each in (compared, *self._subjects.values()))
            winner = self._subjects.get(fastest)
            if winner is None or winner.was_stopped:
                winner = Subject(fastest.open(self._path, self._batched), self._lanes, self._limit_s)
        finally:
            for subject in {compared, *self._subjects.values()} - {winner}:
                subject.close()
        return winner.engine, Choice(fastest.engine, fastest.precision, "; ".join(self._why), self._note)

    def _compete(self, reference: Candidate, compared: Subject, candidates: Sequence[Candidate]) -> Candidate:
        """The winner; the first candidate if nothing can be said."""
        first = candidates[0]
        if first == reference:
            self._subjects[first] = compared
        try:
            self._pace.begin()
            self._until = time.monotonic() + (1 - MEASURED_SHARE) * self._budget_s
            self._kept.check_writable()
            max_batch_size = self._version.max_batch_size if self._batched else 0
            self._go_on()
            each_s = MEASURED_SHARE * self._budget_s / len({reference, *candidates})
            trial = Trial(compared, self._version.spec, max_batch_size, self._lanes, each_s, self._go_on)
            for candidate in reversed(candidates):  # the less precise, which may gain more, before the time is over
                if candidate != reference:
                    self._enter(candidate, trial, is_first=candidate == first)
            self._until += MEASURED_SHARE * self._budget_s
            entrants = [each for each in candidates if each in self._subjects]
            return self._fastest(trial, entrants, reference)
        except GivenUp as error:
            self.is_lasting = False
            why = f"not measured: {error}"
        except RunFailed as error:
            why = f"not measured: {reference}: {error}"
        except OSError as error:
            self.is_complete = False
            why = f"not measured: {self._kept.folder}: {error.strerror}; --engine-cache sets the folder"
            log.warning("engines not measured", extra={"fields": {"model": self._version.name, "reason": why}})
        self._why.append(why)
        if first != reference:
            self._note = f"{first} was not compared with {reference}: {why}"
        return first

    def _enter(self, candidate: Candidate, trial: Trial, is_first: bool) -> None:
        """Opens a candidate and compares it.

        Raises:
            NotServing: it is the first, which would serve, and its values are wrong.
        """
        reason = self._kept.why_skipped(self._key, candidate.label)
        if reason:
            self.is_lasting = False
            log.warning("engine skipped", extra={"fields": {"engine": str(candidate), "reason": reason}})
            self._reject(candidate, reason, is_first)
            return
        far, mixes = self._examine(candidate, trial)
        if is_first and mixes and not far:
            self._note = f"{candidate}: {mixes}"  # it was requested; callers should know
        elif far or mixes:
            subject = self._subjects.pop(candidate, None)
            if subject is not None:
                subject.close()
            self._reject(candidate, far or mixes, is_first)

    def _examine(self, candidate: Candidate, trial: Trial) -> Finding:
        """Opens a candidate and compares it."""
        try:
            with self._trying(candidate):
                engine = open_within(lambda: candidate.open(self._path, self._batched), self._limit_s)
                subject = self._subjects[candidate] = Subject(engine, self._lanes, self._limit_s)
                finding = trial.compare(subject, candidate.precision)
                for side_px in trial.sides_px:
                    if any(finding):
                        break
                    finding = trial.compare_at(subject, candidate.precision, side_px)
            return finding
        except RunFailed as error:
            self.is_lasting &= not isinstance(error, Hung) and not isinstance(error.__cause__, PASSING)
            return Finding(str(error), "")
        except GivenUp as error:
            if self._pace.is_stopping:
                raise
            self.is_lasting = False
            return Finding("", str(error))

    def _reject(self, candidate: Candidate, reason: str, is_first: bool) -> None:
        fields = {"model": self._version.name, "version": self._version.version, "engine": str(candidate)}
        log.info("engine not offered", extra={"fields": {**fields, "reason": reason}})
        if is_first:
            raise NotServing(f"{candidate}: {reason}; --engine auto with --cpu-precision auto serves what passes")
        self._why.append(f"{candidate} not offered: {reason}")

    def _fastest(self, trial: Trial, entrants: Sequence[Candidate], reference: Candidate) -> Candidate:
        """The fastest of those that may serve; the first, unless another one is clearly faster."""
        first = entrants[0]
        if len(entrants) == 1:
            return first
        setups = trial.setups()
        by_name = {str(each): each for each in entrants}
        subjects = {name: self._subjects[each] for name, each in by_name.items()}
        speeds = Speeds(subjects, setups, lambda name: self._trying(by_name[name], reference))
        speeds.measure(self._go_on)
        ratios = speeds.all_ratios()
        if is_torn(ratios, str(first)):
            speeds.measure_more(self._go_on)
            ratios = speeds.all_ratios()
        for name, found in ratios.items():
            self.figures[name] = {str(setup): round(rate, 2) for setup, rate in speeds.per_s(name).items()}
            if name != str(first):
                span = f"{min(found):.2f} to {max(found):.2f}"
                self._why.append(f"{name} {geometric_mean(found):.2f} x {first} ({span})")
        self._why += [f"{name} {reason}" for name, reason in speeds.failed.items()]
        self.is_lasting &= speeds.rounds >= MIN_ROUNDS
        enough = GAIN if speeds.rounds >= MIN_ROUNDS else HASTY_GAIN
        fastest = clearly_fastest(ratios, str(first), enough)
        self.is_lasting &= fastest != str(first) or speeds.is_steady
        return by_name[fastest]

    def _trying(self, candidate: Candidate, reference: Candidate | None = None) -> AbstractContextManager[None]:
        """Marks that the candidate runs; the reference is not marked, which would serve in any case."""
        return contextlib.nullcontext() if candidate == reference else self._kept.trying(self._key, candidate.label)

    def _go_on(self) -> None:
        """Between two runs: lets models that serve go first.

        Raises:
            GivenUp: it is time to end.
        """
        self._until += self._pace.rest()
        if self._pace.is_stopping:
            self.is_complete = False
            raise GivenUp("the server is stopping")
        if time.monotonic() >= self._until:
            raise GivenUp(f"it takes too long; {self._budget_s:g} s are half of warmup_s")


def clearly_fastest(ratios: Mapping[str, Sequence[float]], first: str, enough: float = GAIN) -> str:
    """The candidate that is fastest in the mean of the setups; `first` unless one gains `enough` and loses nowhere.

    `ratios`: by candidate, how many times as fast as `first` it is in each setup.
    """
    gains = {name: geometric_mean(found) for name, found in ratios.items() if name != first and min(found) >= LOSS}
    best = max(gains, key=gains.__getitem__, default=first)
    return best if gains.get(best, 0.0) >= enough else first


def is_torn(ratios: Mapping[str, Sequence[float]], first: str) -> bool:
    """Whether a candidate gains enough in the mean and loses in a setup, which a busy moment may cause."""
    others = (found for name, found in ratios.items() if name != first)
    return any(geometric_mean(found) >= GAIN and min(found) < LOSS for found in others)
