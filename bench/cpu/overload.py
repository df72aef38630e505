"""`python -m bench overload`: more load than the server can take; what is still answered in time, and how it is after.

Open loops: callers who come at a multiple of the capacity, whether or not earlier ones have their answer. Closed loops:
callers who wait for theirs. The generator takes its processor time from the same cores as the server.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

from bench.caller.arrivals import Pacing
from bench.caller.loops import Flood, Phase, call_once
from bench.caller.wire import OK
from bench.cpu.load import Workload
from bench.percentiles import percentile
from bench.report import milliseconds, number, show

CAPACITY_IMAGES = 64  # in flight
# So long a deadline that no server rejects a call for it, nor for a limit that it sets to calls without one.
CAPACITY_DEADLINE_S = 60.0
CALLER_DEADLINE_S = 1.0  # of closed loops
SINGLE_CALLS = 20
# Answers to calls without a deadline count within the larger of the two.
LIMIT_S = 0.25
LIMIT_TIMES = 5.0  # times a single call
COLUMNS = (
    "images per call", "load", "deadline", "images/s in time", "kept", "p50 / p99 ms", "rejected", "p50 / p99 ms",
    "with pushback", "late", "next ms", "caller µs/call",
)  # fmt: skip


class Capacity(NamedTuple):
    """What the server serves in a closed loop, and the share of all cores that the caller takes meanwhile."""

    images_per_s: float
    caller_share: float


@dataclass
class Case:
    """One load and what came of it. `capacity`: the mean of before and after."""

    workload: Workload
    load: str
    has_deadline: bool
    phase: Phase
    capacity: Capacity
    next_after_s: float  # a single call right afterwards; nan if it was not answered

    @property
    def images_per_s(self) -> float:
        return self.phase.per_s * self.workload.images

    @property
    def kept(self) -> float:
        """Images answered in time as a share of the capacity."""
        return self.images_per_s / self.capacity.images_per_s

    @property
    def kept_without_caller(self) -> float:
        """`kept`, of what the caller leaves of the cores each time: as if it ran on others."""
        return self.kept * (1 - self.capacity.caller_share) / (1 - self.phase.caller_share)

    def rejection_s(self, percent: float) -> float:
        return percentile([answer.latency_s for answer in self.phase.rejected], percent)

    @property
    def pushbacks(self) -> int:
        """Rejections that name the time of the next try."""
        return sum(answer.pushback_s is not None for answer in self.phase.rejected)


def measure(
    workload: Workload,
    *,
    seconds: float,
    factors: Sequence[float],
    callers: Sequence[int],
    pause_s: float,
    deadline_s: float,
    no_deadline: bool,
    pacing: Pacing,
) -> Iterator[Case]:
    """Open loops at `factors` times the capacity, with a deadline and without, then closed loops of `callers`."""
    limit_s = max(LIMIT_S, LIMIT_TIMES * single_s(workload))
    capacity = _capacity(workload, seconds)
    loads: list[tuple[float, int, bool]] = [(factor, 0, True) for factor in factors]
    loads += [(factor, 0, False) for factor in factors if no_deadline]
    loads += [(0, number, True) for number in callers]
    for factor, number_of_callers, has_deadline in loads:
        if factor:
            calls_per_s = factor * capacity.images_per_s / workload.images
            phase: Phase = workload.open_loop(
                calls_per_s, seconds, pacing, limit_s=deadline_s if has_deadline else limit_s, has_deadline=has_deadline
            )
        else:
            phase = workload.closed_loop(number_of_callers, seconds, deadline_s=CALLER_DEADLINE_S, pause_s=pause_s)
        load = f"{factor:g} x" if factor else f"{number_of_callers} callers"
        after = call_once(workload.target.address, workload.path, workload.messages[0])
        next_after_s = after.latency_s if after.status == OK else nan
        before, capacity = capacity, _capacity(workload, seconds)
        mean = Capacity(*(sum(pair) / 2 for pair in zip(before, capacity, strict=True)))
        yield Case(workload, load, has_deadline, phase, mean, next_after_s)


def single_s(workload: Workload) -> float:
    """Median latency of calls one after the other, each on a new connection."""
    address, path = workload.target.address, workload.path
    return percentile([call_once(address, path, body).latency_s for body in workload.messages[:SINGLE_CALLS]], 50)


def _capacity(workload: Workload, seconds: float) -> Capacity:
    """Of a closed loop with CAPACITY_IMAGES in flight."""
    callers = max(1, CAPACITY_IMAGES // workload.images)
    phase = workload.closed_loop(callers, seconds / 2, deadline_s=CAPACITY_DEADLINE_S)
    return Capacity(phase.per_s * workload.images, phase.caller_share)


def print_table(cases: Sequence[Case]) -> None:
    """One line for each case, then what should not have happened in it."""
    workload = cases[0].workload
    show(f"{workload.model} over {workload.path}, front end {workload.target.frontend}", COLUMNS, [*map(_line, cases)])
    for case in cases:
        name = f"{case.load}, {case.workload.images} images per call"
        if case.phase.other_errors:
            print(f"{name}: errors by gRPC status: {case.phase.other_errors}")
        if not isinstance(flood := case.phase, Flood):
            continue
        if flood.unsent:
            print(
                f"{name}: {flood.unsent} of {flood.planned} calls not sent: the server allows no more on a connection"
            )
        if not flood.held:
            lag = milliseconds(percentile(flood.lags_s, 99))
            print(f"{name}: THE GENERATOR DID NOT HOLD THE RATE: ", end="")
            print(f"{flood.sending_s:.2f} s to send {flood.seconds:.2f} s of calls, p99 {lag} ms late")


def _line(case: Case) -> tuple[str, ...]:
    phase = case.phase
    limit = f"{phase.limit_s * 1e3:.0f} ms"
    return (
        str(case.workload.images),
        case.load,
        limit if case.has_deadline else f"none ({limit})",
        f"{case.images_per_s:.0f} of {case.capacity.images_per_s:.0f}",
        f"{number(case.kept)} ({number(case.kept_without_caller)})",
        f"{number(phase.latency_s(50) * 1e3, 0)} / {number(phase.latency_s(99) * 1e3, 0)}",
        str(len(phase.rejected)),
        f"{milliseconds(case.rejection_s(50))} / {milliseconds(case.rejection_s(99))}",
        str(case.pushbacks),
        str(phase.late),
        milliseconds(case.next_after_s),
        f"{number(phase.caller_s * 1e6, 0)} ({number(phase.caller_share)})",
    )


def as_json(cases: Sequence[Case]) -> list[dict[str, object]]:
    """Raw figures of every case."""
    return [
        {
            "images_per_call": case.workload.images,
            "load": case.load,
            "has_deadline": case.has_deadline,
            "limit_s": case.phase.limit_s,
            "seconds": case.phase.seconds,
            "capacity_per_s": case.capacity.images_per_s,
            "capacity_caller_share": case.capacity.caller_share,
            "images_per_s": case.images_per_s,
            "kept": case.kept,
            "kept_without_caller": case.kept_without_caller,
            "p50_s": case.phase.latency_s(50),
            "p99_s": case.phase.latency_s(99),
            "answered": len(case.phase.in_time),
            "rejected": len(case.phase.rejected),
            "rejection_p50_s": case.rejection_s(50),
            "rejection_p99_s": case.rejection_s(99),
            "pushbacks": case.pushbacks,
            "late": case.phase.late,
            "other_errors": {str(status): count for status, count in case.phase.other_errors.items()},
            "next_after_s": case.next_after_s,
            "caller_s_per_call": case.phase.caller_s,
            "caller_share": case.phase.caller_share,
            **(_flood_json(case.phase) if isinstance(case.phase, Flood) else {}),
        }
        for case in cases
    ]


def _flood_json(flood: Flood) -> dict[str, object]:
    return {
        "planned": flood.planned,
        "unsent": flood.unsent,
        "rate_held": flood.held,
        "lag_p99_s": percentile(flood.lags_s, 99),
    }
