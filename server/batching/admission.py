"""Leave to run: what a request holds from the door until its answer."""

import asyncio
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray

from server.batching.batch import Job
from server.batching.queue import Turn
from server.engines.base import Arrays
from server.errors import CapacityError, DeadlinePassed, EngineError
from server.observability.context import current

if TYPE_CHECKING:
    from server.batching.batcher import Batcher


@dataclass(frozen=True)
class Done:
    """One job's rows of the outputs, and what its batch was like. Durations in seconds."""

    outputs: dict[str, NDArray[Any]]
    batch_size: int
    queue_s: float
    compute_s: float


class Admission:
    """Room in the queue for a number of rows, as a context: leaving it drops what still waits.

    `deadline`, `timeout_at`: moments on the monotonic clock, None for none. `request`: who holds it, None outside of an
    RPC; `trace`: its trace where it is sampled. Loop thread only.
    """

    def __init__(
        self, batcher: "Batcher", rows: int, nbytes: int, deadline: float | None, timeout_at: float | None
    ) -> None:
        self.request = current.get()
        self.trace = None if self.request is None else self.request.trace
        if self.trace is not None:
            self.trace.admitted(rows)
        self.deadline = deadline
        self.timeout_at = timeout_at
        self.turns: dict[object, Turn] = {}
        self._batcher = batcher
        self._ran_rows = 0
        self._waiting_rows = rows
        self._waiting_bytes = nbytes
        self._pending = True
        self._entered_at = time.monotonic()
        self._queue_s = self._input_s = self._infer_s = self._output_s = 0.0

    async def run(self, arrays: Arrays) -> Done:
        """The outputs of one job: arrays of n rows each, n at most the model's `max_batch_size`.

        Raises:
            InvalidRequest: the engine does not take these shapes.
            DeadlinePassed: the deadline came before the job's turn.
            InferenceFailed: the engine could not run these rows.
        """
        self._batcher.instances.check({name: array.shape for name, array in arrays.items()})
        job = Job(self, arrays, self._batcher.batched)
        self._batcher.enqueue(job)
        try:
            outputs, timings = await job.future
        except DeadlinePassed:
            if self.trace is not None:
                self.trace.phase("queue", job.queued_at, time.monotonic())
            raise
        self._ran_rows += job.rows
        queue_s = timings.started_at - job.queued_at
        self._queue_s = max(self._queue_s, queue_s)
        self._input_s = max(self._input_s, timings.input_s)
        self._infer_s = max(self._infer_s, timings.infer_s)
        self._output_s = max(self._output_s, timings.output_s)
        return Done(outputs, timings.rows, queue_s, timings.infer_s)

    def starts(self, job: Job) -> None:
        """Gives back the job's room in the queue."""
        rows, nbytes = min(job.rows, self._waiting_rows), min(job.nbytes, self._waiting_bytes)
        self._give_back(rows, nbytes)

    def _give_back(self, rows: int, nbytes: int) -> None:
        self._waiting_rows -= rows
        self._waiting_bytes -= nbytes
        self._batcher.release(rows, nbytes)
        if self._pending:
            self._pending = False
            self._batcher.begun()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        statistics = self._batcher.statistics
        for turn in self.turns.values():
            for job in turn.clear():
                job.future.cancel()
                statistics.dropped("cancelled")
        self._give_back(self._waiting_rows, self._waiting_bytes)
        total_s = time.monotonic() - self._entered_at
        if error is None:
            statistics.succeeded(self._ran_rows, self._queue_s, self._input_s, self._infer_s, self._output_s, total_s)
        else:
            statistics.failed(failure_reason(error), total_s)
        self._batcher.left(self)


def failure_reason(error: BaseException) -> str:
    """Triton's word for why a request failed."""
    if isinstance(error, CapacityError):
        return "REJECTED"
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "CANCELED"
    return "BACKEND" if isinstance(error, EngineError) else "OTHER"
