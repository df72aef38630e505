"""Counts and times of one model since it was loaded, as Triton counts them."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from server.errors import CapacityError, EngineError
from server.observability.image_window import ImageWindow

FAIL_REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
DROP_REASONS = ("cancelled", "deadline", "overloaded", "timeout", "other")


@dataclass(frozen=True, slots=True)
class Observers:
    """Histograms and counters that get each single observation; the sums are in ModelStatistics."""

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
    cache_hits: int = 0
    cache_hit_s: float = 0.0
    cache_misses: int = 0
    cache_miss_s: float = 0.0
    batches: dict[int, BatchTimes] = field(default_factory=dict)
    observe_response_ms: Callable[[float], None] | None = None
    images: ImageWindow | None = None  # None: it makes none, or they are not looked at

    def executed(self, batch_size: int, input_s: float, infer_s: float, output_s: float) -> None:
        """The engine ran once, on `batch_size` items."""
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
        self, items: int, queue_s: float, input_s: float, infer_s: float, output_s: float, total_s: float
    ) -> None:
        """One request of so many items was computed. Call before the reply leaves: perf_analyzer reads right after."""
        self.inference_count += items
        self.success_count += 1
        self.success_s += total_s
        self.queue_s += queue_s
        self.input_s += input_s
        self.infer_s += infer_s
        self.output_s += output_s
        self.last_inference_ms = int(time.time() * 1000)
        self.observers.queue_s(queue_s)
        if self.observe_response_ms is not None:
            self.observe_response_ms(total_s * 1000)

    def cache_hit(self, seconds: float) -> None:
        """One request was answered from the response cache, or by the run of an equal one, after so many seconds."""
        self.cache_hits += 1
        self.cache_hit_s += seconds
        self.success_count += 1
        self.success_s += seconds
        self.last_inference_ms = int(time.time() * 1000)
        if self.observe_response_ms is not None:
            self.observe_response_ms(seconds * 1000)

    def cache_miss(self, seconds: float) -> None:
        """One request was looked up in the response cache in vain."""
        self.cache_misses += 1
        self.cache_miss_s += seconds

    def failed(self, reason: str, total_s: float) -> None:
        """One request ended without an answer, for one of FAIL_REASONS; any other counts as OTHER."""
        self.failures[reason if reason in self.failures else "OTHER"] += 1
        self.fail_s += total_s

    def dropped(self, reason: str) -> None:
        """A job was rejected on arrival or left the queue without being computed: one of DROP_REASONS, else `other`."""
        self.observers.dropped(reason)

    def fell_back(self, items: int) -> None:
        """So many items were not finite in the engine's precision and were computed again in float32."""
        self.observers.fell_back(items)


def failure_reason(error: BaseException) -> str:
    """Triton's word for why a request failed."""
    if isinstance(error, CapacityError):
        return "REJECTED"
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "CANCELED"
    return "BACKEND" if isinstance(error, EngineError) else "OTHER"
