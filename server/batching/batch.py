"""Jobs and the batches they run in: joined, run on a lane, split, and retried by halves where a run fails."""

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from server.engines.base import Arrays
from server.observability.context import Run, Share

if TYPE_CHECKING:
    from server.batching.admission import Admission
    from server.batching.batcher import Batcher
    from server.batching.instances import Instance


@dataclass(frozen=True)
class Timings:
    """How the run went that a job took part in. Moments on the monotonic clock, durations in seconds."""

    started_at: float
    rows: int
    input_s: float
    infer_s: float
    output_s: float


class Job:
    """What runs in one piece: arrays with an equal number of rows, or of a model without a batch axis."""

    __slots__ = ("admission", "arrays", "future", "nbytes", "queued_at", "rows", "shape")

    def __init__(self, admission: "Admission", arrays: Arrays, batched: bool) -> None:
        self.admission = admission
        self.arrays = arrays
        self.rows = len(next(iter(arrays.values()))) if batched else 1
        self.nbytes = sum(array.nbytes for array in arrays.values())
        # Jobs with equal trailing shapes can share a batch. The names tell apart what optional inputs are present.
        self.shape = tuple((name, array.shape[1:] if batched else array.shape) for name, array in arrays.items())
        self.queued_at = time.monotonic()
        self.future: asyncio.Future[tuple[dict[str, NDArray[Any]], Timings]] = (
            asyncio.get_running_loop().create_future()
        )


Outcome = tuple[dict[str, NDArray[Any]], Timings] | Exception


@dataclass(frozen=True)
class Ran:
    """A run of the engine and the jobs in it; where it failed, all of its time counts as the engine's."""

    jobs: list[Job]
    timings: Timings
    error: Exception | None = None


class Batch:
    """Jobs that run together. `execute` is for the lane's thread, everything else for the loop."""

    def __init__(self, batcher: "Batcher", instance: "Instance", jobs: list[Job], alone: bool) -> None:
        self.alone = alone
        self._nbytes = sum(job.nbytes for job in jobs)
        self.brief = alone and instance.pace.is_brief(self._nbytes)
        self._batcher = batcher
        self._engine = instance.engine
        self._pace = instance.pace
        self._jobs = jobs
        self._rows = sum(job.rows for job in jobs)
        self._device = instance.device
        self._device_share = 1.0 if alone else 1.0 / instance.device.lanes
        self._started_at = 0.0
        self._pace.begins(self._nbytes)
        self._outcomes: list[Outcome] = []
        self._runs: list[Ran] = []

    def execute(self) -> None:
        """Runs the jobs; never raises: what went wrong is an outcome."""
        self._started_at = time.monotonic()
        self._outcomes = self._run(self._jobs)

    def finish(self) -> None:
        """Records the runs, then answers the callers that are still there."""
        for ran in self._runs:
            if ran.error is None:
                run = ran.timings
                self._batcher.statistics.executed(run.rows, run.input_s, run.infer_s, run.output_s)
        device_s = (time.monotonic() - self._started_at) * self._device_share
        self._pace.ended(self._rows, self._nbytes, device_s)
        for job, outcome in zip(self._jobs, self._outcomes, strict=True):
            if job.future.done():
                continue
            if isinstance(outcome, Exception):
                job.future.set_exception(self._batcher.failed(outcome, job.admission.request))
            else:
                job.future.set_result(outcome)
        self._show_runs()

    def _show_runs(self) -> None:
        """Shows each run to the traces of the sampled requests in it; their wait ended with the first one."""
        for number, ran in enumerate(self._runs):
            shares = [
                Share(job.admission.trace, None if number else job.queued_at, job.rows)
                for job in ran.jobs
                if job.admission.trace is not None
            ]
            if shares:
                shares[0].trace.tracer.batch(self._describe(ran), shares)

    def _describe(self, ran: Ran) -> Run:
        timings = ran.timings
        input_at = timings.started_at + timings.input_s
        output_at = input_at + timings.infer_s
        return Run(
            device=self._device.name,
            rows=timings.rows,
            requests=len({job.admission for job in ran.jobs}),
            started_at=timings.started_at,
            input_at=input_at,
            output_at=output_at,
            ended_at=output_at + timings.output_s,
            error="" if ran.error is None else f"{type(ran.error).__name__}: {ran.error}",
        )

    def _run(self, jobs: list[Job]) -> list[Outcome]:
        started_at = time.monotonic()
        try:
            return self._run_together(jobs)
        except Exception as error:
            failed = Timings(started_at, sum(job.rows for job in jobs), 0.0, time.monotonic() - started_at, 0.0)
            self._runs.append(Ran(jobs, failed, error))
            if len(jobs) == 1:
                return [error]
            # One poisonous item must fail alone.
            middle = len(jobs) // 2
            return self._run(jobs[:middle]) + self._run(jobs[middle:])

    def _run_together(self, jobs: list[Job]) -> list[Outcome]:
        started_at = time.monotonic()
        arrays = jobs[0].arrays
        if len(jobs) > 1:
            arrays = {name: np.concatenate([job.arrays[name] for job in jobs]) for name in arrays}
        joined_at = time.monotonic()
        outputs = self._engine.run(arrays, self.alone)
        ran_at = time.monotonic()
        parts: list[dict[str, NDArray[Any]]] = [outputs]
        rows = sum(job.rows for job in jobs)
        if len(jobs) > 1:
            parts = []
            start = 0
            for job in jobs:
                parts.append({name: array[start : start + job.rows] for name, array in outputs.items()})
                start += job.rows
        timings = Timings(started_at, rows, joined_at - started_at, ran_at - joined_at, time.monotonic() - ran_at)
        self._runs.append(Ran(jobs, timings))
        return [(part, timings) for part in parts]
