"""Several devices and several instances: one queue for a model, the first that is free takes a batch."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.batching.batcher import Batcher
from server.batching.cost import second_per_byte
from server.batching.device import Device, Work
from server.batching.hang import Hangs
from server.batching.policy import Policy
from server.engines.base import DeviceId
from server.errors import InvalidRequest
from server.observability.metrics import Metrics
from server.repository.devices import Devices
from server.repository.placement import Placement
from tests.server.batching.test_batcher import ask, row
from tests.server.conftest import HeldEngine

# Which lane a test names: a GPU's, or the CPU's.
ZERO, SECOND_OF_ZERO, ONE, CPU = (
    Placement(DeviceId("cuda", 0), 0),
    Placement(DeviceId("cuda", 0), 1),
    Placement(DeviceId("cuda", 1), 0),
    Placement(DeviceId("cpu")),
)


class Fleet:
    """A model with a held engine of its own in each place, its gate open."""

    def __init__(self, devices: Devices, *places: Placement, **policy: Any) -> None:
        self.engines = [HeldEngine() for _ in places]
        engines = {devices.at(place): engine for place, engine in zip(places, self.engines, strict=True)}
        limits = {"max_batch_size": 8, "max_queue_rows": 1000, "max_queue_bytes": 1 << 20, **policy}
        self.batcher = Batcher(engines, Policy(**limits), Metrics().model("m", 1))

    def ask(self, *values: float) -> list[asyncio.Task[Any]]:
        """One caller for each value."""
        return [asyncio.create_task(ask(self.batcher, row(value))) for value in values]

    def hold(self) -> None:
        """Keeps every run from ending."""
        for engine in self.engines:
            engine.gate.clear()

    def sizes(self) -> list[list[int]]:
        """The rows of each run, by engine."""
        return [[rows for rows, _ in engine.runs] for engine in self.engines]


MakeFleet = Callable[..., Fleet]


@pytest.fixture
async def devices() -> AsyncIterator[Devices]:
    devices = Devices((0, 1), 2)
    yield devices
    devices.close()


@pytest.fixture
def make_fleet(devices: Devices) -> Any:
    """`make_fleet(*places, ...policy fields)`; every gate is opened at the end."""
    made: list[Fleet] = []

    def make(*places: Placement, **policy: Any) -> Fleet:
        made.append(Fleet(devices, *places, **policy))
        return made[-1]

    yield make
    for fleet in made:
        for engine in fleet.engines:
            engine.gate.set()


def values(answers: list[Any]) -> list[float]:
    return [float(answer.outputs["y"][0, 0]) for answer in answers]


async def test_a_place_is_one_device_for_every_model(devices: Devices) -> None:
    assert devices.names == "cuda:0", "the default one, before any is used"
    assert devices.at(ZERO) is devices.at(Placement(DeviceId("cuda"), 0))
    assert devices.at(ZERO) is not devices.at(SECOND_OF_ZERO)
    assert [devices.at(place).lanes for place in (ZERO, SECOND_OF_ZERO, ONE, CPU)] == [1, 1, 1, 2]
    assert devices.names == "cuda:0,cuda:1,cpu"


@pytest.mark.parametrize(("place", "waits_for_a_thread"), [(CPU, False), (ONE, True)])
async def test_a_brief_request_runs_on_the_loop_on_one_core_and_never_on_a_gpu(
    place: Placement, waits_for_a_thread: bool
) -> None:
    devices = Devices((0, 1), 1)
    fleet = Fleet(devices, place)
    fleet.batcher.costs[devices.at(place)].learn(items=1, nbytes=4, device_s=0.001)
    await asyncio.gather(*fleet.ask(1.0))
    assert (fleet.engines[0].threads[0] is not threading.main_thread()) is waits_for_a_thread
    devices.close()


async def test_a_failure_on_any_device_is_seen(devices: Devices) -> None:
    class Broken:
        is_short = fills_batch = False

        def take(self, lanes: int, may_use_whole_device: bool) -> Work | None:
            raise RuntimeError("bug")

        def has_work(self) -> bool:
            return True

    devices.at(ZERO)
    devices.at(ONE).offer(Broken())
    with pytest.raises(RuntimeError, match="bug"):
        await asyncio.wait_for(devices.failed, 10)


@pytest.mark.parametrize(("place", "said"), [(ZERO, "CUDA_ERROR_ILLEGAL_ADDRESS"), (ZERO, ""), (CPU, "never asked")])
async def test_a_gpu_on_which_nothing_runs_any_more_after_a_failure_ends_the_process(
    place: Placement, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    changes: list[str] = []

    def look(index: int) -> str:
        asked.append(index)
        return said

    monkeypatch.setattr("server.repository.devices.lost", look)
    hangs = Hangs(60.0, lambda: changes.append("readiness"))
    devices = Devices((0,), 2, hangs)
    fleet = Fleet(devices, place)
    await asyncio.gather(*fleet.ask(1.0))
    assert (asked, hangs.is_dead) == ([], False), "nothing failed"
    await asyncio.gather(*fleet.ask(math.nan, math.nan), return_exceptions=True)
    is_lost = place != CPU and bool(said)
    assert bool(asked) == (place != CPU)
    assert hangs.is_dead == is_lost
    assert hangs.texts == [f"cuda:0 is lost ({said}): nothing runs there until this process is started again"] * is_lost
    assert not hangs.is_any
    assert len(changes) == is_lost
    devices.close()


@pytest.mark.parametrize("places", [(ZERO, ONE), (ZERO, SECOND_OF_ZERO)])
async def test_two_batches_run_at_once_and_the_third_waits_for_the_first_that_is_free(
    make_fleet: MakeFleet, places: tuple[Placement, ...]
) -> None:
    fleet = make_fleet(*places, max_batch_size=2)
    fleet.hold()
    tasks = fleet.ask(0, 1, 2, 3)
    await asyncio.gather(*(engine.busy() for engine in fleet.engines))
    assert fleet.sizes() == [[2], [2]]
    tasks += fleet.ask(4, 5)
    await asyncio.sleep(0)
    fleet.engines[1].gate.set()
    assert values(await asyncio.gather(*tasks[2:])) == [4, 6, 8, 10]
    assert fleet.sizes() == [[2], [2, 2]], "the second was free first"
    assert not any(task.done() for task in tasks[:2])
    fleet.engines[0].gate.set()
    assert values(await asyncio.gather(*tasks[:2])) == [0, 2]


async def test_each_device_runs_its_own_engine_on_its_own_thread(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(ZERO, ONE, max_batch_size=1)
    fleet.hold()
    tasks = fleet.ask(0, 1)
    await asyncio.gather(*(engine.busy() for engine in fleet.engines))
    for engine in fleet.engines:
        engine.gate.set()
    await asyncio.gather(*tasks)
    names = [engine.threads[0].name for engine in fleet.engines]
    assert names[0].startswith("lane-cuda:0")
    assert names[1].startswith("lane-cuda:1")


async def test_rows_are_shared_out_over_the_devices_that_are_free(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(ZERO, ONE, CPU)
    answers = await asyncio.gather(*fleet.ask(*range(8)))
    assert values(answers) == [2 * value for value in range(8)]
    assert fleet.sizes() == [[2], [2], [2, 2]], "the CPU has two lanes"


async def test_one_request_after_another_stays_on_the_first_device(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(ZERO, CPU)
    for value in range(5):
        await ask(fleet.batcher, row(value))
    assert fleet.sizes() == [[1] * 5, []]


async def test_a_slow_instance_does_not_hold_the_queue_of_the_other(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(ZERO, ONE, max_batch_size=1)
    fleet.engines[0].gate.clear()
    stuck = fleet.ask(0)
    await fleet.engines[0].busy()
    assert values(await asyncio.gather(*fleet.ask(*range(20)))) == [2 * value for value in range(20)]
    assert not stuck[0].done()


async def test_a_device_that_lost_the_work_to_another_is_offered_the_next(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(ZERO, ONE)
    fleet.engines[0].gate.clear()
    held = fleet.ask(0)
    await fleet.engines[0].busy()
    await asyncio.gather(*fleet.ask(1))  # offered to both, taken by the second
    fleet.engines[1].gate.clear()
    held += fleet.ask(2)
    await fleet.engines[1].busy()
    await fleet.engines[1].busy()
    fleet.engines[0].gate.set()
    assert values([await held[0]]) == [0]
    assert values(await asyncio.gather(*fleet.ask(3))) == [6], "the first finds nothing at its turn, and then this"


async def test_what_waits_for_company_is_offered_to_every_device_when_its_time_is_over(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(ZERO, ONE, max_batch_size=4, max_queue_delay_s=0.02)
    fleet.engines[0].gate.clear()
    stuck = fleet.ask(*range(4))
    await fleet.engines[0].busy()
    done = await asyncio.wait_for(fleet.ask(7)[0], 10)
    assert done.queue_s >= 0.02
    assert not stuck[0].done()


async def test_models_take_turns_on_each_device(make_fleet: MakeFleet) -> None:
    one, two = make_fleet(ZERO, ONE, max_batch_size=1), make_fleet(ZERO, ONE, max_batch_size=1)
    one.hold()
    two.hold()
    order: list[str] = []
    tasks = [*one.ask(*range(4)), *two.ask(*range(4))]
    for task in tasks:
        task.add_done_callback(lambda ended: order.append("one" if tasks.index(ended) < 4 else "two"))
    await asyncio.gather(*(engine.busy() for engine in one.engines))
    for engine in (*one.engines, *two.engines):
        engine.gate.set()
    await asyncio.gather(*tasks)
    assert "two" in order[:4], f"eight rows of one model first would be unfair: {order}"


async def test_a_model_on_the_cpu_is_served_beside_one_on_a_gpu(make_fleet: MakeFleet) -> None:
    gpu, cpu = make_fleet(ZERO), make_fleet(CPU)
    gpu.hold()
    stuck = gpu.ask(0)
    await gpu.engines[0].busy()
    assert values(await asyncio.gather(*cpu.ask(1, 2, 3))) == [2, 4, 6]
    assert not stuck[0].done()
    gpu.engines[0].gate.set()
    assert values([await stuck[0]]) == [0]


async def test_a_shape_that_one_engine_does_not_take_is_refused_for_all(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(ZERO, ONE)
    fleet.engines[0].check = lambda shapes: None  # type: ignore[method-assign]
    with pytest.raises(InvalidRequest, match="at most 20"):
        await ask(fleet.batcher, row(*range(21)))
    assert fleet.sizes() == [[], []]


async def test_drain_waits_for_every_device(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(ZERO, ONE, max_batch_size=1)
    fleet.hold()
    accepted = fleet.ask(0, 1, 2)
    await asyncio.gather(*(engine.busy() for engine in fleet.engines))
    draining = asyncio.create_task(fleet.batcher.drain())
    fleet.engines[0].gate.set()
    await asyncio.gather(accepted[0], accepted[2])
    assert not draining.done()
    fleet.engines[1].gate.set()
    await draining
    assert values([task.result() for task in accepted]) == [0, 2, 4]


async def test_the_wait_is_reckoned_with_every_device(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(ZERO, ONE)
    slow, fast = fleet.batcher.costs.values()
    costs = [(slow, 1), (fast, 1)]
    assert second_per_byte(costs, 4) == 0.0, "nothing measured yet"
    slow.learn(items=1, nbytes=4, device_s=1.0)
    assert 40 * second_per_byte(costs, 4) == pytest.approx(5.0), "the other is taken to be like the first"
    fast.learn(items=1, nbytes=4, device_s=0.25)
    assert 40 * second_per_byte(costs, 4) == pytest.approx(2.0), "one item per second here and four there"
    busy = [(slow, 2), (fast, 2)]
    assert 40 * second_per_byte(busy, 4) == pytest.approx(4.0), "another model has its turn on both"


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=40),
    lanes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    leaving=st.sets(st.integers(0, 39)),
)
def test_every_row_is_answered_once_with_its_own_answer(sizes: list[int], lanes: list[int], leaving: set[int]) -> None:
    async def check() -> None:
        engines = {Device(f"cuda:{i}", count): HeldEngine() for i, count in enumerate(lanes)}
        batcher = Batcher(engines, Policy(8, 1000, 1 << 20), Metrics().model("m", 1))
        inputs = [np.full((n, 2), i, np.float32) for i, n in enumerate(sizes)]
        tasks = [asyncio.create_task(ask(batcher, {"x": x})) for x in inputs]
        await asyncio.sleep(0)
        for index in leaving & set(range(len(tasks))):
            tasks[index].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for index, (given_rows, answer) in enumerate(zip(inputs, answers, strict=True)):
            if index in leaving:
                assert isinstance(answer, asyncio.CancelledError)
            else:
                np.testing.assert_array_equal(answer.outputs["y"], given_rows * 2)  # type: ignore[union-attr]
        for device in engines:
            device.close()
        await asyncio.sleep(0)  # a batch that only callers had who left may end last
        ran = np.concatenate([np.zeros((0, 2)), *(batch for engine in engines.values() for batch in engine.batches)])
        for index, n in enumerate(sizes):
            times = np.count_nonzero(ran[:, 0] == index)
            assert times == n or (index in leaving and times == 0), "no row runs twice"
        assert all(device.sources == 0 for device in engines), "no device waits for work that is gone"

    asyncio.run(check())
