"""`python -m bench overload`: twice the load that the server can take, and how it is afterwards."""

from collections import Counter
from dataclasses import dataclass

from bench.caller.arrivals import Pacing, schedule
from bench.caller.loops import ENDED, Flood, OpenLoop, ask_once
from bench.caller.wire import OK, RESOURCE_EXHAUSTED
from bench.cpu.load import Question
from bench.percentiles import percentile
from bench.report import milliseconds, number, show

CAPACITY_CALLERS = 64
SINGLE_CALLS = 20


@dataclass
class Overload:
    """One flood with what came before and after it; latencies of single calls are on fresh connections' first calls."""

    capacity_per_s: float
    rate_per_s: float
    flood: Flood
    single_before_s: float  # p50 of calls one after the other
    next_after_s: float  # the first call after the flood
    single_after_s: float

    @property
    def kept(self) -> float:
        """Answers in time per second as a share of the capacity."""
        return len(self.flood.in_time) / self.flood.seconds / self.capacity_per_s

    @property
    def refusal_latencies_s(self) -> list[float]:
        return [answer.latency_s for answer in self.flood.with_status(RESOURCE_EXHAUSTED)]

    @property
    def other_errors(self) -> dict[int, int]:
        """Calls per gRPC status that is neither an answer, a refusal nor a deadline."""
        known = (OK, RESOURCE_EXHAUSTED, *ENDED)
        return dict(Counter(answer.status for answer in self.flood.answers if answer.status not in known))


def _single_s(question: Question) -> float:
    address, path = question.target.address, question.path
    latencies = [ask_once(address, path, message).latency_s for message in question.messages[:SINGLE_CALLS]]
    return percentile(latencies, 50)


def measure(
    question: Question, *, seconds: float, factor: float, deadline_s: float, pacing: Pacing, connections: int
) -> Overload:
    """Single calls, the capacity with 64 callers, the flood at `factor` times that, single calls again."""
    before_s = _single_s(question)
    capacity_per_s = question.closed_loop(CAPACITY_CALLERS, seconds).per_s
    rate_per_s = factor * capacity_per_s
    loop = OpenLoop(question.target.address, question.path, deadline_s, connections)
    try:
        flood = loop.run(question.messages, schedule(rate_per_s, seconds, pacing), seconds)
    finally:
        loop.close()
    next_s = ask_once(question.target.address, question.path, question.messages[0]).latency_s
    return Overload(capacity_per_s, rate_per_s, flood, before_s, next_s, _single_s(question))


def print_table(question: Question, result: Overload) -> None:
    """What was kept, refused and lost."""
    flood = result.flood
    refusals_s = result.refusal_latencies_s
    latencies_s = [answer.latency_s for answer in flood.in_time]
    show(
        f"{question.model} at {result.rate_per_s:.0f} calls/s, {flood.deadline_s * 1e3:.0f} ms deadline",
        ("", "value"),
        [
            ("capacity, 64 callers", f"{result.capacity_per_s:.0f} images/s"),
            ("calls planned", str(flood.planned)),
            ("answered in time", f"{len(flood.in_time)} ({number(result.kept)} of capacity)"),
            ("their p50 / p99", f"{milliseconds(percentile(latencies_s, 50))} / "
                                f"{milliseconds(percentile(latencies_s, 99))} ms"),
            ("refused", str(len(refusals_s))),
            ("refusal p50 / p99", f"{milliseconds(percentile(refusals_s, 50))} / "
                                  f"{milliseconds(percentile(refusals_s, 99))} ms"),
            ("late or expired", str(flood.late)),
            ("other errors", str(result.other_errors or 0)),
            ("never sent", str(flood.unsent)),
            ("single call before", f"{milliseconds(result.single_before_s)} ms"),
            ("next call after", f"{milliseconds(result.next_after_s)} ms"),
            ("single call after", f"{milliseconds(result.single_after_s)} ms"),
        ],
    )  # fmt: skip
    lag = milliseconds(percentile(flood.lags_s, 99))
    if flood.held:
        print(f"the generator held the rate (calls sent at most {lag} ms late, p99)")
    else:
        print(
            f"THE GENERATOR DID NOT HOLD THE RATE: {flood.sending_s:.2f} s to send {flood.seconds:.2f} s of calls, ",
            end="",
        )
        print(f"p99 {lag} ms late; the figures above understate the load")


def as_json(question: Question, result: Overload) -> dict[str, object]:
    """Raw counts."""
    flood = result.flood
    return {
        "model": question.model,
        "rpc": question.path,
        "frontend": question.target.frontend,
        "capacity_per_s": result.capacity_per_s,
        "rate_per_s": result.rate_per_s,
        "seconds": flood.seconds,
        "deadline_s": flood.deadline_s,
        "planned": flood.planned,
        "in_time": len(flood.in_time),
        "kept": result.kept,
        "refused": len(result.refusal_latencies_s),
        "refusal_p50_s": percentile(result.refusal_latencies_s, 50),
        "refusal_p99_s": percentile(result.refusal_latencies_s, 99),
        "late": flood.late,
        "unsent": flood.unsent,
        "other_errors": {str(status): count for status, count in result.other_errors.items()},
        "rate_held": flood.held,
        "lag_p99_s": percentile(flood.lags_s, 99),
        "single_before_s": result.single_before_s,
        "next_after_s": result.next_after_s,
        "single_after_s": result.single_after_s,
    }
