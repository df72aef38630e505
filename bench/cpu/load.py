"""`python -m bench load`: what the server serves, as a share of what the engine can do on the same machine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import nan

from artifact.spec import TensorSpec
from bench.caller import loops
from bench.caller.arrivals import Pacing, schedule
from bench.caller.loops import Flood, Phase, call_once
from bench.caller.payloads import Facts
from bench.caller.server import (
    GENERATE,
    INFER,
    Target,
    TargetError,
    check_reply,
    generate_requests,
    infer_requests,
    rejection,
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
class Workload:
    """Requests that are sent over and over, of `images` images each."""

    target: Target
    model: str
    path: str
    messages: list[bytes]
    connections: int = 1
    images: int = 1

    def closed_loop(
        self, callers: int, seconds: float, *, deadline_s: float | None = None, pause_s: float = 0.0
    ) -> Phase:
        """One closed-loop phase; `pause_s` as for `loops.closed_loop`."""
        return loops.closed_loop(
            self.target.address,
            self.path,
            self.messages,
            callers=callers,
            seconds=seconds,
            connections=self.connections,
            deadline_s=deadline_s,
            pause_s=pause_s,
        )

    def open_loop(
        self, calls_per_s: float, seconds: float, pacing: Pacing, *, limit_s: float, has_deadline: bool
    ) -> Flood:
        """One open-loop phase; `limit_s` as for `loops.open_loop`."""
        return loops.open_loop(
            self.target.address,
            self.path,
            self.messages,
            schedule(calls_per_s, seconds, pacing),
            seconds=seconds,
            limit_s=limit_s,
            connections=self.connections,
            has_deadline=has_deadline,
        )


def prepare(
    target: Target,
    model: str,
    rpc: str,
    specs: list[TensorSpec],
    facts: Facts,
    *,
    connections: int = 1,
    images: int = 1,
) -> Workload:
    """The requests for that RPC, after one reply was read in full.

    Raises:
        TargetError: the call failed or its reply is not what was requested.
    """
    path = PATHS[rpc]
    build = infer_requests if rpc == "infer" else generate_requests
    workload = Workload(target, model, path, build(model, specs, facts, images), connections, images)
    first = call_once(target.address, path, workload.messages[0])
    if first.status != OK or first.body is None:
        details = rejection(target, path, workload.messages[0])
        raise TargetError(f"{path} for {model}: the first call ended with gRPC status {first.status}: {details}")
    check_reply(path, first.body, images)
    return workload


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
        return sum(len(phase.answers) - len(phase.in_time) for phase in self.phases)

    @property
    def caller_s(self) -> float:
        """Processor time of the load generator per call."""
        return spread([phase.caller_s for phase in self.phases]).median


def measure(
    workload: Workload, concurrency: Sequence[int], seconds: float, rounds: int, limit: Limit | None, limit_s: float
) -> list[Row]:
    """Closed loops at every concurrency, `rounds` times over, with a round of the engine limit around each of them."""
    rows = [Row(callers) for callers in concurrency]
    if limit is not None:
        limit.measure(limit_s)
    for _ in range(rounds):
        for row in rows:
            before = workload.target.counts(workload.model)
            row.phases.append(workload.closed_loop(row.callers, seconds))
            row.mean_batches.append(workload.target.counts(workload.model).mean_batch_since(before))
            if limit is not None:
                limit.measure(limit_s)
    return rows


def _share(row: Row, limit: Limit | None) -> float:
    return nan if limit is None else row.images_per_s.median / limit.images_per_s.median


def print_table(workload: Workload, rows: Sequence[Row], limit: Limit | None) -> None:
    """The run's one table, and the limit it is a share of."""
    show(
        f"{workload.model} over {workload.path}, front end {workload.target.frontend}",
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


def as_json(workload: Workload, rows: Sequence[Row], limit: Limit | None) -> dict[str, object]:
    """Raw results of every round."""
    return {
        "model": workload.model,
        "rpc": workload.path,
        "frontend": workload.target.frontend,
        "connections": workload.connections,
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
