"""The overload benchmark against a small real server, in this process."""

import asyncio
import time
from typing import Any

import pytest

from artifact.spec import TensorSpec
from bench.caller.loops import Flood
from bench.caller.payloads import Facts
from bench.caller.server import Target
from bench.cpu import greedy, overload
from bench.cpu.load import Workload, prepare
from tests.server.conftest import Start, frontend, repository, start  # noqa: F401  # fixtures

LATENT = [TensorSpec("latent", "FP32", (4,))]
RUN_S = 0.02


async def workload(start: Start, images: int = 1) -> Workload:  # noqa: F811
    """Requests for `tiny`, every run of whose engine takes RUN_S."""
    running = await start(threads=1)
    engine: Any = running.server.repository.get_model("tiny").engine
    run = engine.run

    def slow(arrays: Any, whole_device: bool) -> Any:
        time.sleep(RUN_S)
        return run(arrays, whole_device)

    engine.run = slow
    address = Target("127.0.0.1", running.serving.grpc_port, running.url.removeprefix("http://"))
    return await asyncio.to_thread(prepare, address, "tiny", "infer", LATENT, Facts(), images=images)


async def test_single_images_are_timed_while_another_connection_has_many_requests_waiting(start: Start) -> None:  # noqa: F811
    many = await workload(start, images=8)
    single = await asyncio.to_thread(prepare, many.target, "tiny", "infer", LATENT, Facts())
    greed = await asyncio.to_thread(greedy.measure, many, single, 0.3, requests=200)
    assert (greed.in_flight, greed.greedy_rejected, greed.failed) == (200, 0, 0)
    assert greed.singles
    assert 0 < greed.greedy_per_s <= 8 / RUN_S
    assert greed.batch_s >= RUN_S
    assert 0 < greed.batches(50) < 100, "of some 200 batches that the other has waiting"
    greedy.print_table("tiny", greed)


async def test_every_load_is_measured_as_a_share_of_the_capacity_around_it(
    start: Start,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured = await workload(start, images=2)

    def run() -> list[overload.Case]:
        return list(
            overload.measure(
                measured, seconds=0.2, factors=[2], callers=[3], pause_s=0.1, deadline_s=0.25, no_deadline=True,
                pacing="fixed",
            )
        )  # fmt: skip

    cases = await asyncio.to_thread(run)
    assert [(case.load, case.has_deadline) for case in cases] == [("2 x", True), ("2 x", False), ("3 callers", True)]
    for case in cases:
        assert case.images_per_s > 0
        assert case.kept == case.images_per_s / case.capacity.images_per_s
        shares = case.capacity.caller_share, case.phase.caller_share
        assert all(share > 0 for share in shares)
        assert case.kept_without_caller == case.kept * (1 - shares[0]) / (1 - shares[1])
        assert case.next_after_s > 0
        phase = case.phase
        if isinstance(phase, Flood):
            assert phase.planned == len(phase.answers) + phase.expired + phase.unsent
    overload.print_table(cases)
    shown = capsys.readouterr().out
    assert "2 x" in shown
    assert "none (" in shown
    assert len(overload.as_json(cases)) == 3
