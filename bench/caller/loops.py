"""The two kinds of load: callers who wait for their answer (closed loop), callers who come regardless (open loop)."""

import heapq
import resource
import select
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from math import inf, nan
from types import TracebackType
from typing import Self

from bench.caller.http import HttpConnection
from bench.caller.wire import CANCELLED, DEADLINE_EXCEEDED, OK, RESOURCE_EXHAUSTED, Answer, Connection
from bench.machine import core_count
from bench.percentiles import percentile

RATE_TOLERANCE = 0.99
LAG_TOLERANCE_S = 0.010
ENDED = (DEADLINE_EXCEEDED, CANCELLED)  # a server resets a call past its deadline, or answers with the status
# Above so many calls a second an open loop looks at its connections once in so many seconds, not at each call and
# each answer: a wake-up costs more than a call, here and in the server. Latencies then are up to that much too long.
TICK_RATE = 1000.0
TICK_S = 0.001
PATIENCE_S = 30.0  # an open loop waits no longer for an answer to a call without a deadline

Line = Connection | HttpConnection
Kind = type[Connection] | type[HttpConnection]


def processor_s() -> float:
    """Processor time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@dataclass
class Phase:
    """One measurement. `from_s`, `seconds`: what was measured, on the clock of the answers.

    Attributes:
        limit_s: an answer that took longer does not count.
        expired: calls that were given up at their deadline.
        processor_s: the load generator's own processor time.
    """

    from_s: float
    seconds: float
    limit_s: float = inf
    answers: list[Answer] = field(default_factory=list)
    expired: int = 0
    processor_s: float = nan

    @property
    def in_time(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status == OK and answer.latency_s <= self.limit_s]

    @property
    def per_s(self) -> float:
        """Calls answered in time, per second of the measurement: what is answered after its end does not count."""
        return sum(answer.finished_s < self.from_s + self.seconds for answer in self.in_time) / self.seconds

    @property
    def rejected(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status == RESOURCE_EXHAUSTED]

    @property
    def late(self) -> int:
        """Calls without an answer in time: given up here, ended so by the server, or answered too late."""
        ended = sum(answer.status in ENDED or answer.status == OK for answer in self.answers)
        return self.expired + ended - len(self.in_time)

    @property
    def other_errors(self) -> dict[int, int]:
        """Calls per gRPC status that is neither an answer, a rejection nor a deadline."""
        known = (OK, RESOURCE_EXHAUSTED, *ENDED)
        return dict(Counter(answer.status for answer in self.answers if answer.status not in known))

    def latency_s(self, percent: float) -> float:
        """Of the calls answered in time."""
        return percentile([answer.latency_s for answer in self.in_time], percent)

    @property
    def caller_s(self) -> float:
        """Processor time of the load generator per call."""
        calls = len(self.answers) + self.expired
        return self.processor_s / calls if calls else nan

    @property
    def caller_share(self) -> float:
        """Share of all cores that the load generator took, from the server if it runs on the same ones."""
        return self.processor_s / (self.seconds * core_count())


@dataclass
class Flood(Phase):
    """An open loop. Every planned call is in exactly one of answers, expired and unsent."""

    planned: int = 0
    unsent: int = 0  # the server allowed no more calls in flight on these connections
    lags_s: list[float] = field(default_factory=list)  # how late each call was sent
    sending_s: float = 0.0  # how long it took to send all that was planned

    @property
    def held(self) -> bool:
        """Whether the generator kept to the planned rate."""
        in_step = self.sending_s <= self.seconds / RATE_TOLERANCE
        return in_step and percentile(self.lags_s, 99) <= LAG_TOLERANCE_S


class Callers:
    """Connections with calls in flight, each of which is given up at its deadline, as a gRPC client does.

    `patience_s`: when a call without a deadline is given up. `kind`: of the connections.
    """

    def __init__(
        self,
        address: tuple[str, int],
        path: str,
        *,
        connections: int = 1,
        deadline_s: float | None = None,
        patience_s: float = inf,
        kind: Kind = Connection,
    ) -> None:
        self._lines: list[Line] = [kind(address, path, timeout_s=deadline_s) for _ in range(connections)]
        self._turns = cycle(self._lines)
        self._line_of = {line.fileno(): line for line in self._lines}
        self._give_up_s = patience_s if deadline_s is None else deadline_s
        self._open: deque[tuple[float, Line, int]] = deque()  # ascends: each call is given the same time

    def start(self, message: bytes) -> bool:
        """Queues a call; False if the server allows no more in flight."""
        for _ in self._lines:
            line = next(self._turns)
            if line.in_flight < line.stream_limit:
                break
        else:
            return False
        stream = line.start(message)
        if self._give_up_s < inf:
            self._open.append((time.perf_counter() + self._give_up_s, line, stream))
        return True

    def give_up(self) -> int:
        """Cancels the calls whose time is over, and returns how many."""
        given_up, now_s = 0, time.perf_counter()
        while self._open and self._open[0][0] <= now_s:
            _, line, stream = self._open.popleft()
            given_up += line.cancel(stream)
        return given_up

    def flush(self) -> None:
        """Sends what is queued."""
        for line in self._lines:
            line.flush()

    def receive(self, until_s: float) -> list[Answer]:
        """Sends what is queued and waits for answers: until some come, a call's time is over, or `until_s`.

        Returns at once if there is nothing to wait for.
        """
        self.flush()
        wake_s = min(until_s, self._open[0][0] if self._open else inf)
        if wake_s == inf and not self.in_flight:
            return []
        wait_s = None if wake_s == inf else max(wake_s - time.perf_counter(), 0)
        answers: list[Answer] = []
        for descriptor in select.select(self._line_of, [], [], wait_s)[0]:
            answers += self._line_of[descriptor].receive()
        return answers

    @property
    def in_flight(self) -> int:
        return sum(line.in_flight for line in self._lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for line in self._lines:
            line.close()


def call_once(
    address: tuple[str, int],
    path: str,
    message: bytes,
    kind: Kind = Connection,
) -> Answer:
    """One call on a connection of its own, its reply's bytes kept."""
    connection = kind(address, path)
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
    deadline_s: float | None = None,
    pause_s: float = 0.0,
    kind: Kind = Connection,
) -> Phase:
    """Keeps `callers` callers busy for a tenth of `seconds` unmeasured, then for `seconds` measured.

    A caller calls again as soon as it has its answer; after a rejection, when that says, or else after `pause_s`.
    """
    bodies = cycle(messages)
    used_s: float | None = None
    from_s = time.perf_counter() + seconds / 10
    to_s = from_s + seconds
    phase = Phase(from_s, seconds, inf if deadline_s is None else deadline_s)
    connections = callers if kind is HttpConnection else min(connections, callers)
    with Callers(address, path, connections=connections, deadline_s=deadline_s, kind=kind) as lines:
        due_s = [0.0] * callers  # of each caller that has no call in flight, when it calls
        while (now_s := time.perf_counter()) < to_s:
            if used_s is None and now_s >= from_s:  # ONNX Runtime's threads spin into the warm-up
                used_s = processor_s()
            for _ in range(given_up := lines.give_up()):
                heapq.heappush(due_s, now_s)
            phase.expired += given_up if now_s >= from_s else 0
            while due_s and due_s[0] <= now_s and lines.start(next(bodies)):
                heapq.heappop(due_s)
            for answer in lines.receive(min(to_s, due_s[0]) if due_s and due_s[0] > now_s else to_s):
                pause = pause_s if answer.pushback_s is None else answer.pushback_s
                heapq.heappush(due_s, answer.finished_s + (pause if answer.status == RESOURCE_EXHAUSTED else 0.0))
                if from_s <= answer.finished_s < to_s:
                    phase.answers.append(answer)
        if used_s is not None:
            phase.processor_s = processor_s() - used_s
    return phase


def open_loop(
    address: tuple[str, int],
    path: str,
    messages: Sequence[bytes],
    arrivals_s: Sequence[float],
    *,
    seconds: float,
    limit_s: float,
    connections: int = 1,
    has_deadline: bool = True,
) -> Flood:
    """Sends calls at times decided beforehand; returns when every call has been answered or given up.

    `limit_s`: an answer that takes longer does not count. It is the calls' deadline if `has_deadline`.
    """
    flood = Flood(time.perf_counter(), seconds, limit_s, planned=len(arrivals_s))
    bodies, position = cycle(messages), 0
    deadline_s, used_s = limit_s if has_deadline else None, processor_s()
    lines = Callers(address, path, connections=connections, deadline_s=deadline_s, patience_s=PATIENCE_S)
    with lines:
        began_s = flood.from_s = time.perf_counter()
        tick_s = TICK_S if len(arrivals_s) > TICK_RATE * seconds else 0.0
        while position < len(arrivals_s) or lines.in_flight:
            now_s = time.perf_counter()
            while position < len(arrivals_s) and began_s + arrivals_s[position] <= now_s:
                flood.lags_s.append(now_s - began_s - arrivals_s[position])
                flood.sending_s = now_s - began_s
                flood.unsent += not lines.start(next(bodies))
                position += 1
            flood.expired += lines.give_up()
            next_s = began_s + arrivals_s[position] if position < len(arrivals_s) else inf
            if tick_s:
                lines.flush()
                time.sleep(max(now_s + tick_s - time.perf_counter(), 0))
                next_s = 0.0
            flood.answers += lines.receive(next_s)
        flood.processor_s = processor_s() - used_s
    return flood
