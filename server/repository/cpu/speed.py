"""Items per second of several engines, interleaved, so that a busy machine slows all alike."""

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from statistics import median

from server.batching.cost import MAX_LANE_S
from server.engines.base import Arrays
from server.repository.cpu.subject import GivenUp, RunFailed, Setup, Subject

# A figure is the median of so many rounds, of so long each (or one run, if that takes longer).
ROUNDS = 5
MIN_ROUNDS = 3
SLOT_S = 0.03
# Rounds that differ by more than this are of a busy machine.
STEADY = 1.5
# What is this much slower than the first engine everywhere is not measured further.
HOPELESS = 0.5


def sizes_to_measure(item_s: float, largest: int) -> list[int]:
    """Batch sizes that serve: those that a lane computes in MAX_LANE_S, one in between, and 1.

    `item_s`: what an item takes on one lane. `largest`: of a batch; 0 without a batch axis.
    """
    if not largest:
        return [0]
    longest = max(1, min(largest, int(MAX_LANE_S / max(item_s, 1e-9))))
    return sorted({1, 1 << (longest.bit_length() // 2), longest} - {0}) if longest > 2 else sorted({1, longest})


class Speeds:
    """Items per second of several engines in several setups."""

    def __init__(
        self,
        subjects: Mapping[str, Subject],
        inputs: Mapping[Setup, Arrays],
        running: Callable[[str], AbstractContextManager[object]],
    ) -> None:
        """`subjects`: the first is what the others are compared with. `running`: entered while one of them runs."""
        self._subjects = dict(subjects)
        self._first = next(iter(subjects))
        self._inputs = inputs
        self._running = running
        self.failed: dict[str, str] = {}
        self.rounds = 0  # that were measured
        self._rates: dict[str, dict[Setup, list[float]]] = {
            name: {setup: [] for setup in inputs} for name in self._subjects
        }

    def measure(self, go_on: Callable[[], None]) -> None:
        """Measures; a first round only warms. What fails is left out, with its reason in `failed`.

        Raises:
            RunFailed: the first engine fails.
            GivenUp: `go_on` raised it before there was one round.
        """
        for number in range(-1, ROUNDS):
            try:
                self._round(go_on)
            except GivenUp:
                if not self.rounds:
                    raise
                break
            self.rounds = number + 1
            if number < 0:
                self._leave_hopeless_out()
                for rates in self._rates.values():
                    for found in rates.values():
                        found.clear()

    def measure_more(self, go_on: Callable[[], None]) -> None:
        """As many rounds again, as far as `go_on` lets it: for figures that are not clear.

        Raises:
            RunFailed: the first engine fails.
        """
        with contextlib.suppress(GivenUp):
            for _ in range(ROUNDS):
                self._round(go_on)
                self.rounds += 1

    def _round(self, go_on: Callable[[], None]) -> None:
        for setup, arrays in self._inputs.items():
            for name in list(self._subjects):
                go_on()
                try:
                    with self._running(name):
                        rate = self._subjects[name].items_per_s(arrays, setup, SLOT_S)
                except RunFailed as error:
                    if name == self._first:
                        raise
                    self._leave_out(name, str(error))
                else:
                    self._rates[name][setup].append(rate)

    def _leave_hopeless_out(self) -> None:
        for name in list(self._subjects):
            if max(self.ratios(name).values()) < HOPELESS:
                self._leave_out(name, f"less than {HOPELESS:g} times as fast")

    def _leave_out(self, name: str, reason: str) -> None:
        self.failed[name] = reason
        del self._subjects[name], self._rates[name]

    @property
    def names(self) -> list[str]:
        """Those that were measured to the end, the first one included."""
        return list(self._subjects)

    def per_s(self, name: str) -> dict[Setup, float]:
        """Items per second: the median of the rounds."""
        return {setup: median(rates) for setup, rates in self._rates[name].items()}

    def ratios(self, name: str) -> dict[Setup, float]:
        """How many times as fast as the first engine it is: the median over rounds, each of which is one moment."""
        first = self._rates[self._first]
        return {
            setup: median(ours / theirs for ours, theirs in zip(rates, first[setup], strict=False))
            for setup, rates in self._rates[name].items()
        }

    @property
    def is_steady(self) -> bool:
        """Whether the rounds of every engine and setup agree: if not, other work took the machine in between."""
        found = (rates for setups in self._rates.values() for rates in setups.values())
        return all(max(rates) < STEADY * min(rates) for rates in found)

    def all_ratios(self) -> dict[str, list[float]]:
        """The ratios of each engine that was measured to the end, in the order of the setups."""
        return {name: list(self.ratios(name).values()) for name in self.names}
