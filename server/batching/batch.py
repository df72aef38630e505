"""One batch through an engine: joined, run, split, and retried by halves if a run fails. Pure; for a lane's thread."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.batching.queue import Job
from server.engines.base import Arrays, Engine


@dataclass(frozen=True)
class EngineRun:
    """One run of an engine. Moments on the monotonic clock: `joined_at` to `ran_at` is the engine's own time.

    `outputs`: by job; none if the run failed with `error`, whose whole time counts as the engine's. A failed run of
    several jobs is followed by one of each half.
    """

    jobs: list[Job]
    started_at: float
    joined_at: float
    ran_at: float
    ended_at: float
    outputs: list[dict[str, NDArray[Any]]]
    error: Exception | None = None

    @property
    def items(self) -> int:
        """The batch size."""
        return sum(job.items for job in self.jobs)


def run_batch(engine: Engine, jobs: list[Job], whole_device: bool) -> list[EngineRun]:
    """Runs jobs of one shape together; never raises. A failing item fails alone: a batch that fails is run by halves.

    Returns:
        Every run in order; the last one that a job is in has its outputs or its error.
    """
    started_at = time.monotonic()
    try:
        return [_run_together(engine, jobs, whole_device)]
    except Exception as error:
        failed = EngineRun(jobs, started_at, started_at, (now := time.monotonic()), now, [], error)
        if len(jobs) == 1:
            return [failed]
        middle = len(jobs) // 2
        return [
            failed,
            *run_batch(engine, jobs[:middle], whole_device),
            *run_batch(engine, jobs[middle:], whole_device),
        ]


def _run_together(engine: Engine, jobs: list[Job], whole_device: bool) -> EngineRun:
    started_at = time.monotonic()
    arrays: Arrays = jobs[0].arrays
    if len(jobs) > 1:
        arrays = {name: np.concatenate([job.arrays[name] for job in jobs]) for name in arrays}
    joined_at = time.monotonic()
    outputs = engine.run(arrays, whole_device)
    ran_at = time.monotonic()
    parts = [outputs]
    if len(jobs) > 1:
        parts = []
        start = 0
        for job in jobs:
            parts.append({name: array[start : start + job.items] for name, array in outputs.items()})
            start += job.items
    return EngineRun(jobs, started_at, joined_at, ran_at, time.monotonic(), parts)
