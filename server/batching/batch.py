"""One batch: its jobs joined, run and split on a lane's thread, then counted, traced and answered on the loop."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.batching.cost import SHORT_S, CostModel
from server.batching.device import Device
from server.batching.job import Done, Job
from server.engines.base import Arrays, Engine, Stoppable
from server.errors import InferenceFailed, drop_frames
from server.observability.context import RequestContext
from server.observability.model_statistics import ModelStatistics
from server.observability.trace import Run, Share

# A run goes on for so long after the last of its callers has left.
ABANDONED_S = 1.0

log = logging.getLogger(__name__)


class EngineRun(NamedTuple):
    """One run of an engine. Moments on the monotonic clock: `joined_at` to `ran_at` is the engine's own time.

    `items`: the batch size. `outputs`: by job; none if the run failed with `error`, whose whole time counts as the
    engine's. A failed run of several jobs is followed by one of each half.
    """

    jobs: list[Job]
    items: int
    started_at: float
    joined_at: float
    ran_at: float
    ended_at: float
    outputs: list[dict[str, NDArray[Any]]]
    error: Exception | None = None


def run_batch(
    engine: Engine, jobs: list[Job], whole_device: bool, is_over: Callable[[], bool] = lambda: False
) -> list[EngineRun]:
    """Runs jobs of one shape together; a pure function that never raises.

    A batch that fails is run again by halves, so that a failing item fails alone; unless `is_over`.

    Returns:
        Every run in order; the last one that a job is in has its outputs or its error.
    """
    started_at = time.monotonic()
    try:
        return [_run_together(engine, jobs, whole_device)]
    except Exception as error:
        items = sum(job.items for job in jobs)
        failed = EngineRun(jobs, items, started_at, started_at, (now := time.monotonic()), now, [], error)
        if len(jobs) == 1:
            return [failed]
        if is_over():
            return [failed, *(failed._replace(jobs=[job], items=job.items) for job in jobs)]
        middle = len(jobs) // 2
        return [
            failed,
            *run_batch(engine, jobs[:middle], whole_device, is_over),
            *run_batch(engine, jobs[middle:], whole_device, is_over),
        ]


def _run_together(engine: Engine, jobs: list[Job], whole_device: bool) -> EngineRun:
    started_at = time.monotonic()
    arrays: Arrays = jobs[0].arrays
    items = jobs[0].items
    if len(jobs) > 1:
        items = sum(job.items for job in jobs)
        arrays = {name: np.concatenate([job.arrays[name] for job in jobs]) for name in arrays}
    joined_at = time.monotonic()
    outputs = engine.run(arrays, whole_device)
    ran_at = time.monotonic()
    if jobs[0].batched:
        require_items(outputs, items)
    parts = [outputs]
    if len(jobs) > 1:
        parts = []
        start = 0
        for job in jobs:
            parts.append({name: array[start : start + job.items] for name, array in outputs.items()})
            start += job.items
    return EngineRun(jobs, items, started_at, joined_at, ran_at, time.monotonic(), parts)


def require_items(outputs: Arrays, items: int) -> None:
    """Checks that a batch's outputs have one entry for each of its items: else callers would get each other's.

    Raises:
        ValueError: an output has not.
    """
    for name, array in outputs.items():
        if array.shape[:1] != (items,):
            raise ValueError(f"output {name!r} has shape {list(array.shape)} for a batch of {items} items")


class FormedBatch:
    """Jobs that leave the queue together, as `Work` for a device: run on a lane's thread, then answered on the loop."""

    def __init__(
        self,
        jobs: list[Job],
        whole_device: bool,
        engine: Engine,
        device: Device,
        cost: CostModel,
        statistics: ModelStatistics,
        running: "Running",
    ) -> None:
        """`running`: it is among these until it has ended."""
        self.whole_device = whole_device
        self.engine = engine
        self._jobs = jobs
        self._device = device
        self._cost = cost
        self._statistics = statistics
        self._nbytes = self._items = 0
        for job in jobs:
            self._nbytes += job.nbytes
            self._items += job.items
        self.estimated_s = cost.seconds(self._nbytes, self._nbytes // self._items)
        # On the loop nothing could end a run that hangs, and after one that failed the engine may have to recover.
        is_quick = cost.is_steady and cost.sound_at >= cost.failed_at
        self.is_short = whole_device and is_quick and 0.0 < self.estimated_s < SHORT_S
        self._started_at = 0.0
        self._interrupted = self._ends_unheard = False
        self.unheard_at: float | None = None  # since when it was seen to have no callers
        self._running = running
        running.batches.add(self)
        self._runs: list[EngineRun] = []
        cost.running_s += self.estimated_s

    def describe(self) -> str:
        """The model, the batch size and whose requests are in it."""
        requests = {job.ticket.request.id for job in self._jobs if job.ticket.request is not None}
        return f"a batch of {self._items} of model {self._statistics.name!r}, requests {', '.join(sorted(requests))}"

    def execute(self) -> None:
        """Runs the jobs; never raises: what went wrong is in the runs."""
        self._started_at = time.monotonic()
        if not self._ends_unheard:
            self._runs = run_batch(self.engine, self._jobs, self.whole_device, lambda: self._interrupted)
            if self._runs[0].error is not None:
                self._cost.failed_at = time.monotonic()  # before the next batch is formed

    @property
    def has_failed(self) -> bool:
        """Whether one of its runs did."""
        return any(run.error is not None for run in self._runs)

    def interrupt(self) -> None:
        """Ends the run with an error, if the engine can do that. Others of the engine end, too."""
        self._interrupted = True
        if isinstance(self.engine, Stoppable):
            self.engine.interrupt()

    @property
    def is_unheard(self) -> bool:
        """Whether every caller has left."""
        return all(job.future.done() for job in self._jobs)

    def end_unheard(self) -> None:
        """Ends the run, since nobody waits for it. Once."""
        if not self._ends_unheard:
            self._ends_unheard = True
            self.interrupt()

    def finish(self) -> None:
        """Counts the runs, then answers the callers that are still there."""
        for run in self._runs:
            if run.error is None:
                self._statistics.executed(
                    run.items, run.joined_at - run.started_at, run.ran_at - run.joined_at, run.ended_at - run.ran_at
                )
        lanes = 1 if self.whole_device else self._device.lanes
        device_s = (time.monotonic() - self._started_at) / lanes
        self._cost.running_s -= self.estimated_s
        if not self._ends_unheard and all(run.error is None for run in self._runs):
            self._cost.sound_at = max(self._cost.sound_at, self._started_at)
            self._cost.learn(self._items, self._nbytes, device_s)
        self._running.end(self)
        for run in self._runs:
            if run.error is None or len(run.jobs) == 1:  # else its jobs are in later runs too
                _answer(run)
        _trace(self._runs, self._device.name)
        for run in self._runs:
            if run.error is not None:  # its frames hold inputs, and what the engine ran them in
                drop_frames(run.error)


class Running:
    """The batches of one model that were formed and have not ended. Ends those whose callers have all left, since the
    run of a large input may take minutes. Loop thread only."""

    def __init__(self, ended: Callable[[], None]) -> None:
        """`ended` is called when a batch has ended, and its model's estimates may be others."""
        self.batches: set[FormedBatch] = set()
        self._ended = ended
        self._timer: asyncio.TimerHandle | None = None

    def end(self, batch: FormedBatch) -> None:
        """The batch has ended."""
        self.batches.remove(batch)
        self._ended()

    def caller_left(self) -> None:
        """A request has ended without its answer."""
        now = time.monotonic()
        for batch in self.batches:
            if batch.unheard_at is None and batch.is_unheard:
                batch.unheard_at = now
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(ABANDONED_S, self._look)

    def close(self) -> None:
        """Ends all of them, since every request has ended and the engines are about to be freed."""
        if self._timer is not None:
            self._timer.cancel()
        for batch in self.batches:
            batch.end_unheard()
            if isinstance(batch.engine, Stoppable):
                batch.engine.stop()

    def _look(self) -> None:
        """An engine ends all of its runs or none, so that one is left for as long as another has callers."""
        self._timer = None
        now = time.monotonic()
        of_engine: dict[int, list[FormedBatch]] = {}
        for batch in self.batches:
            of_engine.setdefault(id(batch.engine), []).append(batch)
        for batches in of_engine.values():
            if all(batch.unheard_at is not None and batch.unheard_at + ABANDONED_S <= now for batch in batches):
                for batch in batches:
                    batch.end_unheard()
        if any(batch.unheard_at is not None for batch in self.batches):
            self._timer = asyncio.get_running_loop().call_later(ABANDONED_S / 4, self._look)


def _answer(run: EngineRun) -> None:
    """Gives each job that is still awaited its outputs, or the error of its run."""
    for index, job in enumerate(run.jobs):
        if job.future.done():
            continue
        if run.error is not None:
            job.future.set_exception(_opaque(run.error, job.ticket.request))
        else:
            job.future.set_result(
                Done(
                    run.outputs[index], run.items, run.started_at - job.queued_at, run.joined_at - run.started_at,
                    run.ran_at - run.joined_at, run.ended_at - run.ran_at,
                )
            )  # fmt: skip


def _opaque(error: Exception, request: RequestContext | None) -> InferenceFailed:
    """The caller's view of an engine's error: an id, or what the engine says to callers. The log has the rest, and
    whose request it was."""
    error_id = uuid.uuid4().hex[:12]
    fields = {**({} if request is None else dict(request.log_fields())), "error_id": error_id}
    log.error("inference failed", exc_info=error, extra={"fields": fields})
    if isinstance(error, InferenceFailed):  # its text is for the caller
        return error
    return InferenceFailed(f"inference failed; the server's log has the cause under error_id {error_id}")


def _trace(runs: list[EngineRun], device: str) -> None:
    """Shows each run to the traces of the sampled requests in it; their wait ended with the first one."""
    for number, run in enumerate(runs):
        shares = [
            Share(request.trace, None if number else job.queued_at, job.items)
            for job in run.jobs
            if (request := job.ticket.request) is not None and request.trace is not None
        ]
        if shares:
            shown = Run(
                device=device,
                items=run.items,
                requests=len({job.ticket for job in run.jobs}),
                started_at=run.started_at,
                input_at=run.joined_at,
                output_at=run.ran_at,
                ended_at=run.ended_at,
                error="" if run.error is None else f"{type(run.error).__name__}: {run.error}",
            )
            shares[0].trace.tracer.batch(shown, shares)
