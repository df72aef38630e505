"""One batch through an engine, as a function."""

import math
from typing import Any

import numpy as np

from server.batching.batch import EngineRun, run_batch
from server.batching.job import Client, Job, Level, Ticket
from server.batching.policy import LevelPolicy
from tests.server.conftest import HeldEngine


def job(*values: float) -> Job:
    arrays = {"x": np.array(values, np.float32)[:, np.newaxis]}
    return Job(Ticket(Client("", Level(0, LevelPolicy())), len(values), 4 * len(values)), arrays, batched=True)


def values(run: EngineRun) -> list[list[float]]:
    return [outputs["y"][:, 0].tolist() for outputs in run.outputs]


async def test_jobs_run_together_and_each_gets_its_own_items(engine: HeldEngine) -> None:
    (run,) = run_batch(engine, [job(1), job(2, 3), job(4)], whole_device=False)
    assert engine.runs == [(4, False)]
    assert values(run) == [[2], [4, 6], [8]]
    assert run.items == 4
    assert run.started_at <= run.joined_at <= run.ran_at <= run.ended_at


async def test_a_single_job_is_not_copied(engine: HeldEngine) -> None:
    single = job(1, 2)
    run_batch(engine, [single], whole_device=True)
    assert engine.runs == [(2, True)]
    assert engine.batches[0] is single.arrays["x"]


async def test_a_failing_item_fails_alone(engine: HeldEngine) -> None:
    jobs = [job(1), job(2), job(math.nan), job(4)]
    runs = run_batch(engine, jobs, whole_device=False)
    assert [(len(run.jobs), run.error is not None) for run in runs] == [
        (4, True),
        (2, False),
        (2, True),
        (1, True),
        (1, False),
    ]
    last: dict[int, Any] = {id(each): run for run in runs for each in run.jobs}
    assert [last[id(each)].error is None for each in jobs] == [True, True, False, True]
    assert all(run.joined_at == run.started_at for run in runs if run.error), "all of its time is the engine's"


async def test_a_batch_that_was_interrupted_is_not_run_again(engine: HeldEngine) -> None:
    jobs = [job(1), job(math.nan), job(4)]
    runs = run_batch(engine, jobs, whole_device=False, is_over=lambda: True)
    assert len(engine.runs) == 1
    assert [len(run.jobs) for run in runs] == [3, 1, 1, 1]
    assert all(isinstance(run.error, ArithmeticError) for run in runs), "each caller gets it"
