"""The two kinds of load: callers who wait for their answer (closed loop), callers who come regardless (open loop)."""

import resource
import select
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from math import nan

from bench.caller.wire import CANCELLED, DEADLINE_EXCEEDED, OK, Answer, Connection
from bench.percentiles import percentile

RATE_TOLERANCE = 0.99
LAG_TOLERANCE_S = 0.010
ENDED = (DEADLINE_EXCEEDED, CANCELLED)  # a server resets a call past its deadline, or answers with the status


def processor_s() -> float:
    """Processor time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@dataclass
class Phase:
    """One closed-loop measurement: answers that finished within `seconds`, after the warm-up."""

    callers: int
    seconds: float
    answers: list[Answer]
    processor_s: float  # the load generator's own; ONNX Runtime's threads spin into the warm-up, hence without it

    @property
    def served(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status == OK]

    @property
    def per_s(self) -> float:
        return len(self.served) / self.seconds

    def latency_s(self, percent: float) -> float:
        return percentile([answer.latency_s for answer in self.served], percent)

    @property
    def caller_s(self) -> float:
        """Processor time of the load generator per call."""
        return self.processor_s / len(self.answers) if self.answers else nan


def ask_once(address: tuple[str, int], path: str, message: bytes) -> Answer:
    """One call on a connection of its own, its reply's bytes kept."""
    connection = Connection(address, path)
    try:
        connection.start(message, keep=True)
        answers: list[Answer] = []
        while not answers:
            connection.flush()
            answers = connection.receive()
        return answers[0]
    finally:
        connection.close()


def closed_loop(
    address: tuple[str, int],
    path: str,
    messages: Sequence[bytes],
    *,
    callers: int,
    seconds: float,
    connections: int = 1,
) -> Phase:
    """Keeps `callers` calls in flight for a tenth of `seconds` unmeasured, then for `seconds` measured."""
    lines = [Connection(address, path) for _ in range(min(connections, callers))]
    bodies = cycle(messages)
    used_s: float | None = None
    from_s = time.perf_counter() + seconds / 10
    to_s = from_s + seconds
    answers: list[Answer] = []
    try:
        for index in range(callers):
            lines[index % len(lines)].start(next(bodies))
        for line in lines:
            line.flush()
        while (now_s := time.perf_counter()) < to_s:
            if used_s is None and now_s >= from_s:
                used_s = processor_s()
            for line in select.select(lines, [], [], max(to_s - time.perf_counter(), 0))[0]:
                finished = line.receive()
                answers += finished
                for _ in finished:
                    line.start(next(bodies))
                line.flush()
        spent_s = processor_s() - used_s if used_s is not None else nan
    finally:
        for line in lines:
            line.close()
    measured = [answer for answer in answers if from_s <= answer.finished_s < to_s]
    return Phase(callers, seconds, measured, spent_s)


@dataclass
class Flood:
    """One open-loop measurement. Every planned call is in exactly one of answers, expired and unsent."""

    planned: int
    seconds: float
    deadline_s: float
    answers: list[Answer] = field(default_factory=list)
    expired: int = 0  # given up here at the deadline
    unsent: int = 0  # the server allowed no more calls in flight on these connections
    lags_s: list[float] = field(default_factory=list)  # how late each call was sent
    sending_s: float = 0.0  # how long it took to send all that was planned

    @property
    def in_time(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status == OK and answer.latency_s <= self.deadline_s]

    @property
    def late(self) -> int:
        """Calls without an answer in time: given up here, ended so by the server, or answered too late."""
        ended = sum(answer.status in ENDED for answer in self.answers)
        return self.expired + ended + sum(answer.status == OK for answer in self.answers) - len(self.in_time)

    def with_status(self, status: int) -> list[Answer]:
        return [answer for answer in self.answers if answer.status == status]

    @property
    def held(self) -> bool:
        """Whether the generator kept the rate that it was asked for."""
        in_step = self.sending_s <= self.seconds / RATE_TOLERANCE
        return in_step and percentile(self.lags_s, 99) <= LAG_TOLERANCE_S


class OpenLoop:
    """Sends calls at times decided beforehand, over several connections, and gives each up at its deadline."""

    def __init__(self, address: tuple[str, int], path: str, deadline_s: float, connections: int) -> None:
        self._lines = [Connection(address, path, timeout_s=deadline_s) for _ in range(connections)]
        self._deadline_s = deadline_s
        self._open: deque[tuple[float, Connection, int]] = deque()  # deadlines ascend, as all calls have the same

    def run(self, messages: Sequence[bytes], arrivals_s: Sequence[float], seconds: float) -> Flood:
        """One flood; returns when every call has been answered or given up."""
        flood = Flood(len(arrivals_s), seconds, self._deadline_s)
        bodies, position = cycle(messages), 0
        began_s = time.perf_counter()
        while position < len(arrivals_s) or any(line.in_flight for line in self._lines):
            now_s = time.perf_counter()
            while position < len(arrivals_s) and began_s + arrivals_s[position] <= now_s:
                flood.lags_s.append(now_s - began_s - arrivals_s[position])
                flood.sending_s = now_s - began_s
                flood.unsent += not self._start(next(bodies), now_s)
                position += 1
            flood.expired += self._give_up(now_s)
            for line in self._lines:
                line.flush()
            wake_s = self._open[0][0] if self._open else now_s + self._deadline_s
            if position < len(arrivals_s):
                wake_s = min(wake_s, began_s + arrivals_s[position])
            for line in select.select(self._lines, [], [], max(wake_s - time.perf_counter(), 0))[0]:
                flood.answers += line.receive()
        return flood

    def close(self) -> None:
        for line in self._lines:
            line.close()

    def _start(self, body: bytes, now_s: float) -> bool:
        line = min(self._lines, key=lambda line: line.in_flight)
        if line.in_flight >= line.stream_limit:
            return False
        self._open.append((now_s + self._deadline_s, line, line.start(body)))
        return True

    def _give_up(self, now_s: float) -> int:
        given_up = 0
        while self._open and self._open[0][0] <= now_s:
            _, line, stream = self._open.popleft()
            given_up += line.cancel(stream)
        return given_up
