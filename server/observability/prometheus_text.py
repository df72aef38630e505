"""Counters, histograms and the Prometheus text format 0.0.4.

Why not prometheus_client's own: its renderer takes 12 us a line (30 ms for a server with ten models, on the event
loop), prints large numbers with an exponent and renames counters; perf_analyzer accepts neither. Everything here is
for the loop thread: there are no locks.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Generic, Protocol, TypeVar


class Instrument(Protocol):
    """One series or, for a histogram, one set of them."""

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """The sample lines, without newlines; `labels` is what stands between the braces."""


class Counter:
    """A number that only grows, or a gauge if negative amounts are added."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float) -> None:
        self.value += amount

    def lines(self, name: str, labels: str) -> Iterator[str]:
        yield sample(name, labels, self.value)


class Histogram:
    """How often a value fell below each of the ascending bounds, and the sum of all. Of each bucket it knows the last
    value that has a trace."""

    __slots__ = ("_counts", "_sum", "_traced", "bounds")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._traced: dict[int, tuple[str, float, float]] = {}  # the trace, the value and when that was

    def observe(self, value: float, trace_id: str = "") -> None:
        bucket = bisect_left(self.bounds, value)
        self._counts[bucket] += 1
        self._sum += value
        if trace_id:
            self._traced[bucket] = trace_id, value, time.time()

    def exemplars(self, name: str, labels: str) -> Iterator[tuple[str, str]]:
        """What stands before the number of a bucket's line, and the bucket's exemplar."""
        for bucket, (trace_id, value, at) in self._traced.items():
            bound = float(self.bounds[bucket]) if bucket < len(self.bounds) else "+Inf"
            le = label_text({"le": str(bound)})
            start = f"{name}_bucket{{{labels},{le}}}" if labels else f"{name}_bucket{{{le}}}"
            yield start, f"{{{label_text({'trace_id': trace_id})}}} {number(value)} {at:.3f}"

    def lines(self, name: str, labels: str) -> Iterator[str]:
        start = f'{name}_bucket{{{labels},le="' if labels else f'{name}_bucket{{le="'
        totals = list(accumulate(self._counts))
        for bound, total in zip(self.bounds, totals, strict=False):
            yield f'{start}{float(bound)}"}} {total}'
        yield f'{start}+Inf"}} {totals[-1]}'
        yield sample(f"{name}_sum", labels, self._sum)
        yield sample(f"{name}_count", labels, totals[-1])


T = TypeVar("T", bound=Instrument)


class Family(Generic[T]):
    """All series of one metric name, one instrument for each set of label values."""

    def __init__(self, kind: str, name: str, text: str, labels: tuple[str, ...], make: Callable[[], T]) -> None:
        self._kind, self._name, self._text, self._labels, self._make = kind, name, text, labels, make
        self._children: dict[tuple[str, ...], tuple[str, T]] = {}

    def child(self, *values: str) -> T:
        """The instrument of these label values, made on first use. Keep it: the look-up is slow."""
        found = self._children.get(values)
        if found is None:
            labels = label_text(dict(zip(self._labels, values, strict=True)))
            found = self._children[values] = (labels, self._make())
        return found[1]

    def forget(self, label: str, value: str) -> None:
        """Removes the series whose label has this value from the page; their instruments may still be used."""
        at = self._labels.index(label)
        self._children = {values: child for values, child in self._children.items() if values[at] != value}

    def children(self) -> Iterator[tuple[str, T]]:
        """(what stands between the braces, instrument) of each series."""
        yield from self._children.values()

    def lines(self) -> Iterator[str]:
        yield from header(self._kind, self._name, self._text)
        for labels, instrument in self._children.values():
            yield from instrument.lines(self._name, labels)


def header(kind: str, name: str, text: str) -> Iterator[str]:
    """The two comment lines that precede the samples of a metric name."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def family_lines(kind: str, name: str, text: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    """The page's lines for values that are read at each scrape; samples are (labels, value)."""
    yield from header(kind, name, text)
    for labels, value in samples:
        yield sample(name, labels, value)


def sample(name: str, labels: str, value: float) -> str:
    """One sample line."""
    return f"{name}{{{labels}}} {number(value)}" if labels else f"{name} {number(value)}"


def number(value: float) -> str:
    """Digits and at most one dot, never an exponent, to the nanosecond or the full integer."""
    text = str(value)
    return f"{value:.9f}" if "e" in text else text


def label_text(labels: dict[str, str]) -> str:
    """What stands between the braces, escaped."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
