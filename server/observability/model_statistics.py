"""What one model did since it was loaded, counted as Triton counts it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tritonclient.grpc import service_pb2

FAIL_REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
DROP_REASONS = ("cancelled", "deadline", "overloaded", "shutdown", "timeout", "other")


@dataclass(frozen=True, slots=True)
class Observers:
    """Where single observations go as they happen; the sums stay in ModelStatistics."""

    queue_s: Callable[[float], None]
    compute_s: Callable[[float], None]
    batch_size: Callable[[float], None]
    dropped: Callable[[str], None]
    fell_back: Callable[[int], None]


@dataclass(slots=True)
class BatchTimes:
    """The model's runs at one batch size."""

    executions: int = 0
    input_s: float = 0.0
    infer_s: float = 0.0
    output_s: float = 0.0


@dataclass(slots=True)
class ModelStatistics:
    """Counts and cumulative times of one (model, version). Loop thread only.

    Times are summed per request: a batch of four requests adds its run time four times to `infer_s`, once to `batches`.
    """

    name: str
    version: int
    observers: Observers
    pending_count: int = 0  # requests of which nothing was given to an engine yet; the batcher keeps it
    inference_count: int = 0
    execution_count: int = 0
    success_count: int = 0
    failures: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAIL_REASONS, 0))
    success_s: float = 0.0
    fail_s: float = 0.0
    queue_s: float = 0.0
    input_s: float = 0.0
    infer_s: float = 0.0
    output_s: float = 0.0
    last_inference_ms: int = 0
    batches: dict[int, BatchTimes] = field(default_factory=dict)

    def executed(self, batch_size: int, input_s: float, infer_s: float, output_s: float) -> None:
        """The engine ran once, on `batch_size` rows."""
        times = self.batches.get(batch_size)
        if times is None:
            times = self.batches[batch_size] = BatchTimes()
        times.executions += 1
        times.input_s += input_s
        times.infer_s += infer_s
        times.output_s += output_s
        self.execution_count += 1
        self.observers.compute_s(infer_s)
        self.observers.batch_size(batch_size)

    def succeeded(
        self, rows: int, queue_s: float, input_s: float, infer_s: float, output_s: float, total_s: float
    ) -> None:
        """One request of `rows` rows was computed. Call before the reply leaves: perf_analyzer reads right after it."""
        self.inference_count += rows
        self.success_count += 1
        self.success_s += total_s
        self.queue_s += queue_s
        self.input_s += input_s
        self.infer_s += infer_s
        self.output_s += output_s
        self.last_inference_ms = int(time.time() * 1000)
        self.observers.queue_s(queue_s)

    def failed(self, reason: str, total_s: float) -> None:
        """One request ended without an answer, for one of FAIL_REASONS; any other word counts as OTHER."""
        self.failures[reason if reason in self.failures else "OTHER"] += 1
        self.fail_s += total_s

    def dropped(self, reason: str) -> None:
        """A job left the queue, or the door, without being computed: one of DROP_REASONS, or else `other`."""
        self.observers.dropped(reason)

    def fell_back(self, rows: int) -> None:
        """So many rows were not finite in the engine's precision and were answered from float32."""
        self.observers.fell_back(rows)

    def fill(self, message: "service_pb2.ModelStatistics") -> None:
        """Writes all of it into an empty ModelStatistics message of the KServe v2 protocol."""
        message.name = self.name
        message.version = str(self.version)
        message.last_inference = self.last_inference_ms
        message.inference_count = self.inference_count
        message.execution_count = self.execution_count
        stats = message.inference_stats
        _set(stats.fail, sum(self.failures.values()), self.fail_s)
        _set(stats.success, self.success_count, self.success_s)
        _set(stats.queue, self.success_count, self.queue_s)
        _set(stats.compute_input, self.success_count, self.input_s)
        _set(stats.compute_infer, self.success_count, self.infer_s)
        _set(stats.compute_output, self.success_count, self.output_s)
        for batch_size, times in sorted(self.batches.items()):
            batch = message.batch_stats.add(batch_size=batch_size)
            _set(batch.compute_input, times.executions, times.input_s)
            _set(batch.compute_infer, times.executions, times.infer_s)
            _set(batch.compute_output, times.executions, times.output_s)


def _set(duration: "service_pb2.StatisticDuration", count: int, seconds: float) -> None:
    duration.count = count
    duration.ns = int(seconds * 1e9)
