"""`python -m bench load`: what the server serves, as a share of what the engine can do on the same machine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import nan

from artifact.spec import TensorSpec
from bench.caller.loops import Phase, ask_once, closed_loop
from bench.caller.payloads import Facts
from bench.caller.server import (
    GENERATE,
    INFER,
    Target,
    TargetError,
    check_reply,
    generate_requests,
    infer_requests,
    refusal,
)
from bench.caller.wire import OK
from bench.cpu.engine import Limit
from bench.percentiles import Spread, spread
from bench.report import milliseconds, number, show

PATHS = {"infer": INFER, "generate": GENERATE}
COLUMNS = (
    "callers",
    "images/s (min-max)",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "mean batch",
    "served / limit",
    "errors",
    "caller µs/call",
)


@dataclass(frozen=True)
class Question:
    """What is asked over and over: one image per call."""

    target: Target
    model: str
    path: str
    messages: list[bytes]
    connections: int = 1

    def closed_loop(self, callers: int, seconds: float) -> Phase:
        """One closed-loop phase."""
        return closed_loop(
            self.target.address,
            self.path,
            self.messages,
            callers=callers,
            seconds=seconds,
            connections=self.connections,
        )


def ask(
    target: Target, model: str, rpc: str, specs: list[TensorSpec], facts: Facts, *, connections: int = 1
) -> Question:
    """The question for that RPC, after one reply to it was read in full.

    Raises:
        TargetError: the call failed or its reply is not what was asked for.
    """
    path = PATHS[rpc]
    build = infer_requests if rpc == "infer" else generate_requests
    question = Question(target, model, path, build(model, specs, facts), connections)
    first = ask_once(target.address, path, question.messages[0])
    if first.status != OK or first.body is None:
        details = refusal(target, path, question.messages[0])
        raise TargetError(f"{path} for {model}: the first call ended with gRPC status {first.status}: {details}")
    check_reply(path, first.body)
    return question


@dataclass
class Row:
    """All rounds of one number of callers."""

    callers: int
    phases: list[Phase] = field(default_factory=list)
    mean_batches: list[float] = field(default_factory=list)

    @property
    def images_per_s(self) -> Spread:
        return spread([phase.per_s for phase in self.phases])

    def latency_s(self, percent: float) -> float:
        """Median over the rounds of each round's percentile."""
        return spread([phase.latency_s(percent) for phase in self.phases]).median

    @property
    def mean_batch(self) -> float:
        return spread(self.mean_batches).median

    @property
    def errors(self) -> int:
        return sum(len(phase.answers) - len(phase.served) for phase in self.phases)

    @property
    def caller_s(self) -> float:
        """Processor time of the load generator per call."""
        return spread([phase.caller_s for phase in self.phases]).median


def measure(
    question: Question, concurrency: Sequence[int], seconds: float, rounds: int, limit: Limit | None, limit_s: float
) -> list[Row]:
    """Closed loops at every concurrency, `rounds` times over, with a round of the engine limit around each of them."""
    rows = [Row(callers) for callers in concurrency]
    if limit is not None:
        limit.measure(limit_s)
    for _ in range(rounds):
        for row in rows:
            before = question.target.counts(question.model)
            row.phases.append(question.closed_loop(row.callers, seconds))
            row.mean_batches.append(question.target.counts(question.model).mean_batch_since(before))
            if limit is not None:
                limit.measure(limit_s)
    return rows


def _share(row: Row, limit: Limit | None) -> float:
    return nan if limit is None else row.images_per_s.median / limit.images_per_s.median


def print_table(question: Question, rows: Sequence[Row], limit: Limit | None) -> None:
    """The run's one table, and the limit it is a share of."""
    show(
        f"{question.model} over {question.path}, front end {question.target.frontend}",
        COLUMNS,
        [
            (
                str(row.callers),
                str(row.images_per_s),
                *(milliseconds(row.latency_s(percent)) for percent in (50, 95, 99)),
                number(row.mean_batch),
                number(_share(row, limit)),
                str(row.errors),
                number(row.caller_s * 1e6, 0),
            )
            for row in rows
        ],
    )
    if limit is not None:
        print(f"engine limit: {limit.images_per_s} images/s, best {limit.best}; ", end="")
        print(f"batch 1 with all threads p50 {milliseconds(limit.latency_s)} ms")


def as_json(question: Question, rows: Sequence[Row], limit: Limit | None) -> dict[str, object]:
    """Raw results of every round."""
    return {
        "model": question.model,
        "rpc": question.path,
        "frontend": question.target.frontend,
        "connections": question.connections,
        "limit": None if limit is None else limit.as_json(),
        "rows": [
            {
                "callers": row.callers,
                "images_per_s": [phase.per_s for phase in row.phases],
                "share": _share(row, limit),
                **{f"p{p}_s": [phase.latency_s(p) for phase in row.phases] for p in (50, 95, 99)},
                "mean_batch": row.mean_batches,
                "errors": row.errors,
                "caller_s_per_call": row.caller_s,
            }
            for row in rows
        ],
    }
