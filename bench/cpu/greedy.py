"""`python -m bench overload --greedy`: one connection with very many requests in flight, and another with one image."""

import select
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice

from bench.caller.wire import OK, Answer, Connection
from bench.cpu.load import Workload
from bench.cpu.overload import single_s
from bench.percentiles import percentile
from bench.report import milliseconds, number, show

REQUESTS = 1000
# Of the calls of both: so long that the server admits them all, and they do wait in its queue.
DEADLINE_S = 600.0
# How much longer than the measurement the last single image is waited for.
PATIENCE_S = 30.0
# Between an answer to the other connection and its next call, so that its calls come at any moment of a batch.
PAUSE_S = 0.017


@dataclass
class Greed:
    """How single images of one connection fare while another has `in_flight` requests of `images` images waiting."""

    images: int
    in_flight: int
    alone_s: float  # p50 of a single image before
    batch_s: float  # mean time of one run of the engine meanwhile
    greedy_per_s: float  # images/s of the greedy connection
    greedy_rejected: int
    singles: list[Answer] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Single images that were not answered."""
        return sum(answer.status != OK for answer in self.singles)

    def latency_s(self, percent: float) -> float:
        """Of the single images that were answered."""
        return percentile([answer.latency_s for answer in self.singles if answer.status == OK], percent)

    def batches(self, percent: float) -> float:
        """The latency in units of a batch's time."""
        return self.latency_s(percent) / self.batch_s


def measure(greedy: Workload, single: Workload, seconds: float, requests: int = REQUESTS) -> Greed:
    """Fills one connection with `requests` requests and keeps it full, while another has single images made.

    A tenth of `seconds` is not measured.
    """
    address, path = greedy.target.address, greedy.path
    alone_s = single_s(single)
    full, other = (Connection(address, path, timeout_s=DEADLINE_S) for _ in range(2))
    try:
        _fill(full, greedy, requests)
        bodies, images = cycle(greedy.messages), cycle(single.messages)
        _exchange(full, other, bodies, images, seconds / 10)
        before = single.target.counts(single.model)
        served, singles = _exchange(full, other, bodies, images, seconds)
        batch_s = single.target.counts(single.model).batch_s_since(before)
    finally:
        full.close()
        other.close()
    answered = sum(answer.status == OK for answer in served)
    rate = answered * greedy.images / seconds
    return Greed(greedy.images, full.in_flight, alone_s, batch_s, rate, len(served) - answered, singles)


def _fill(full: Connection, greedy: Workload, requests: int) -> None:
    """Starts as many of the requests as the server allows on one connection, which it says before its first answer."""
    full.start(greedy.messages[0])
    full.flush()
    while not full.receive():
        full.flush()
    for message in islice(cycle(greedy.messages), min(requests, full.stream_limit)):
        full.start(message)


def _exchange(
    full: Connection, other: Connection, bodies: Iterator[bytes], images: Iterator[bytes], seconds: float
) -> tuple[list[Answer], list[Answer]]:
    """What both connections were answered. `full` gets a request for each reply; `other` has one call at a time, the
    last one begun within `seconds`."""
    served: list[Answer] = []
    singles: list[Answer] = []
    next_s = time.perf_counter()
    to_s = next_s + seconds
    while (now_s := time.perf_counter()) < to_s or (other.in_flight and now_s < to_s + PATIENCE_S):
        if not other.in_flight and now_s >= next_s:
            other.start(next(images))
        for line in (full, other):
            line.flush()
        wake_s = to_s + PATIENCE_S if other.in_flight else min(next_s, to_s)
        for line in select.select((full, other), (), (), max(wake_s - now_s, 0))[0]:
            answers = line.receive()
            if line is full:
                served += [answer for answer in answers if answer.finished_s < to_s]
                for answer in answers:
                    if answer.status == OK:  # one that is rejected does not come again
                        full.start(next(bodies))
            elif answers:
                singles += answers
                next_s = answers[0].finished_s + PAUSE_S
    return served, singles


def print_table(model: str, greed: Greed) -> None:
    """The waiting connection's latency, in milliseconds and in batches."""

    def line(what: str, percent: float) -> tuple[str, str]:
        shown = milliseconds(greed.latency_s(percent))
        return f"its latency, {what}", f"{shown} ms, {number(greed.batches(percent))} batches"

    show(
        f"{model}: one connection with {greed.in_flight} requests of {greed.images} images in flight, and another",
        ("", "value"),
        [
            ("a batch", f"{milliseconds(greed.batch_s)} ms"),
            ("the other's single images", f"{len(greed.singles)}, {greed.failed} not answered"),
            ("alone, p50", f"{milliseconds(greed.alone_s)} ms"),
            line("p50", 50),
            line("p99", 99),
            line("max", 100),
            ("greedy connection", f"{greed.greedy_per_s:.0f} images/s, {greed.greedy_rejected} requests rejected"),
        ],
    )


def as_json(greed: Greed) -> dict[str, object]:
    """Raw figures."""
    return {
        "in_flight": greed.in_flight,
        "images_per_call": greed.images,
        "batch_s": greed.batch_s,
        "alone_p50_s": greed.alone_s,
        "single_s": [answer.latency_s for answer in greed.singles if answer.status == OK],
        "single_failed": greed.failed,
        "greedy_images_per_s": greed.greedy_per_s,
        "greedy_rejected": greed.greedy_rejected,
    }
