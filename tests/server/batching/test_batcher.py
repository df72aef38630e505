import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest

from server.batching.batcher import Batcher
from server.batching.device import Device
from server.batching.job import Done
from server.batching.policy import Policy
from server.batching.standing import TooLate
from server.errors import DeadlinePassed, InferenceFailed, InvalidRequest, NotServing, Overloaded
from server.observability.context import RequestContext, current
from server.observability.metrics import Metrics


def row(*values: float) -> dict[str, Any]:
    return {"x": np.array([values], dtype=np.float32)}


async def ask(batcher: Batcher, arrays: dict[str, Any], deadline: float | None = None) -> Done:
    rows = len(arrays["x"])
    with batcher.admit(rows, arrays["x"].nbytes, deadline) as admission:
        return await admission.run(arrays)


def measured(batcher: Batcher, item_s: float) -> None:
    """Has it know what an item of one value takes on the whole device."""
    (cost,) = batcher.costs.values()
    cost.learn(items=1, nbytes=4, device_s=item_s)


async def reached(moment: float) -> None:
    """Returns once the monotonic clock shows `moment`."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_at(loop.time() + moment - time.monotonic(), over.set_result, None)
    await over


async def test_a_lone_job_has_the_whole_device(make_batcher: Any, engine: Any) -> None:
    done = await ask(make_batcher(lanes=2), row(1, 2))
    np.testing.assert_array_equal(done.outputs["y"], [[2, 4]])
    assert engine.runs == [(1, True)]


async def test_callers_that_meet_get_a_lane_each(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher(lanes=2)
    await asyncio.gather(ask(batcher, row(1)), ask(batcher, row(2)))
    await ask(batcher, row(3))
    assert [alone for _, alone in engine.runs] == [False, False, True]


async def test_a_cpu_batch_is_no_longer_than_it_gains(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher(lanes=2, max_batch_size=32)
    measured(batcher, item_s=0.005)  # so a lane takes 10 ms for an item, and 40 ms for four
    await asyncio.gather(*(ask(batcher, row(i)) for i in range(40)))
    assert engine.runs[:2] == [(4, False), (4, False)]


@pytest.mark.parametrize("lanes", [1, 2])
async def test_a_brief_lone_request_runs_where_it_arrives(lanes: int, make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher(lanes=lanes, max_batch_size=32, is_cpu=True)
    measured(batcher, item_s=0.001)
    await ask(batcher, row(1))
    for _ in range(3):  # in truth it takes less
        measured(batcher, item_s=0.001)
    await ask(batcher, row(*range(20)))  # alone too, but 20 ms long: the loop must stay free
    assert engine.threads[0] is threading.main_thread()
    assert engine.threads[1] is not threading.main_thread()


async def test_what_follows_a_failed_run_is_not_on_the_loop_for_the_engine_may_recover(
    make_batcher: Any, engine: Any
) -> None:
    batcher = make_batcher(lanes=2)
    measured(batcher, item_s=0.001)
    with pytest.raises(InferenceFailed):
        await ask(batcher, row(np.nan))
    for value in (1, 2):
        await ask(batcher, row(value))
    assert [thread is threading.main_thread() for thread in engine.threads] == [True, False, True]


async def test_a_request_that_is_known_to_have_come_alone_is_answered_at_once(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher(lanes=2, is_cpu=True)
    measured(batcher, item_s=0.001)
    request = RequestContext("service", "rpc", None, ())
    request.came_alone = True
    current.set(request)
    with batcher.admit(1, 4, None) as admission:
        answer = admission.run(row(1))
        with pytest.raises(StopIteration):  # without waiting for anything
            answer.send(None)
    with batcher.admit(2, 8, None) as admission:
        both = [asyncio.ensure_future(admission.run(row(each))) for each in (1, 2)]
        await asyncio.gather(*both)
    assert [items for items, _ in engine.runs] == [1, 1, 1], "of two jobs the first one does not go ahead"
    assert [alone for _, alone in engine.runs] == [True, False, False]


async def test_the_loop_never_waits_for_a_gpu(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher(lanes=1)
    measured(batcher, item_s=0.001)
    await ask(batcher, row(1))
    assert engine.threads[0] is not threading.main_thread()
    assert engine.runs == [(1, False)]


async def test_jobs_that_arrive_together_are_shared_out_over_idle_lanes(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher(lanes=2)
    await asyncio.gather(*(ask(batcher, row(i)) for i in range(6)))
    assert engine.runs == [(3, False), (3, False)]


async def test_what_queued_while_the_lane_was_busy_leaves_as_one_batch(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher()
    engine.gate.clear()
    first = asyncio.create_task(ask(batcher, row(0)))
    await engine.busy()
    rest = [asyncio.create_task(ask(batcher, row(i))) for i in range(1, 6)]
    await asyncio.sleep(0)
    engine.gate.set()
    answers = await asyncio.gather(first, *rest)
    assert [rows for rows, _ in engine.runs] == [1, 5]
    assert [float(answer.outputs["y"][0, 0]) for answer in answers] == [0, 2, 4, 6, 8, 10]
    assert [answer.batch_size for answer in answers] == [1, 5, 5, 5, 5, 5]


@pytest.mark.parametrize(("item_s", "waiting"), [(0.001, 2), (0.02, 6)])
async def test_a_batch_is_formed_before_a_gpu_is_free_if_it_is_full_and_brief(
    make_batcher: Any, engine: Any, item_s: float, waiting: int
) -> None:
    batcher = make_batcher(max_batch_size=4)
    measured(batcher, item_s)
    engine.gate.clear()
    tasks = [asyncio.create_task(ask(batcher, row(0)))]
    await engine.busy()
    tasks += [asyncio.create_task(ask(batcher, row(i))) for i in range(6)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # a batch is formed after what is ready
    assert batcher.waiting_items == waiting
    tasks.append(asyncio.create_task(ask(batcher, row(6))))
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(*tasks)
    assert [rows for rows, _ in engine.runs] == [1, 4, 3], "what was not full had company"


async def test_a_batch_is_not_formed_ahead_while_a_lane_is_free_elsewhere(engine: Any) -> None:
    devices = [Device(f"cuda:{number}", 1) for number in range(2)]
    batcher = Batcher(dict.fromkeys(devices, engine), Policy(1, 1000, 1 << 20), Metrics().model("m", 1))
    for cost in batcher.costs.values():
        cost.learn(items=1, nbytes=4, device_s=0.001)
    engine.gate.clear()
    tasks = [asyncio.create_task(ask(batcher, row(i))) for i in range(2)]
    for _ in tasks:
        await engine.busy()
    assert len(set(engine.threads)) == 2
    engine.gate.set()
    await asyncio.gather(*tasks)
    for device in devices:
        device.close()


async def test_different_shapes_do_not_close_each_others_batches(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher()
    engine.gate.clear()
    first = asyncio.create_task(ask(batcher, row(0)))
    await engine.busy()
    rest = [asyncio.create_task(ask(batcher, row(*range(1 + i % 2)))) for i in range(8)]
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(first, *rest)
    assert [rows for rows, _ in engine.runs] == [1, 4, 4]


async def test_a_request_for_many_images_lets_others_in(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher(max_batch_size=4)
    engine.gate.clear()

    async def many() -> None:
        with batcher.admit(100, 400, None) as admission:
            await asyncio.gather(*(admission.run(row(i)) for i in range(100)))

    big = asyncio.create_task(many())
    await engine.busy()
    small = asyncio.create_task(ask(batcher, row(700)))
    await asyncio.sleep(0)
    engine.gate.set()
    await small
    assert 700.0 in engine.batches[1], "the next batch to be formed has room for the other caller"
    await big


@pytest.mark.parametrize("lanes", [1, 2])
async def test_a_full_batch_leaves_at_once_under_a_queue_delay(make_batcher: Any, engine: Any, lanes: int) -> None:
    batcher = make_batcher(lanes, max_batch_size=4, max_queue_delay_s=3600.0)
    await asyncio.wait_for(asyncio.gather(*(ask(batcher, row(i)) for i in range(4))), 10)
    assert engine.runs == [(4, False)]


async def test_what_is_full_behind_a_batch_does_not_wait_for_its_delay(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher(max_batch_size=4, max_queue_delay_s=(2**64 - 1) / 1e6)
    first = asyncio.create_task(ask(batcher, row(0)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = [ask(batcher, row(i)) for i in range(7)]
    await asyncio.wait_for(asyncio.gather(first, *rest), 10)
    assert [rows for rows, _ in engine.runs] == [4, 4]


async def test_a_partial_batch_waits_for_company_no_longer_than_the_delay(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher(max_batch_size=4, max_queue_delay_s=0.02)
    done = await ask(batcher, row(1))
    assert done.queue_s >= 0.02
    assert [rows for rows, _ in engine.runs] == [1]


async def test_a_job_is_never_split_across_batches(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher(max_batch_size=4)
    three = {"x": np.ones((3, 1), np.float32)}
    await asyncio.gather(ask(batcher, three), ask(batcher, three), ask(batcher, row(1)))
    assert sorted(rows for rows, _ in engine.runs) == [3, 4]


async def test_admission_is_refused_by_rows_bytes_and_requests(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher(max_queue_rows=3, max_queue_bytes=100, max_queue_requests=2)
    with pytest.raises(Overloaded, match=r"4 items requested, 0 waiting, limit 3 \(max_queue_rows\)"):
        batcher.admit(4, 1, None)
    with pytest.raises(Overloaded, match=r"101 bytes requested, 0 waiting, limit 100 \(max_queue_bytes\)"):
        batcher.admit(1, 101, None)
    full = pytest.raises(Overloaded, match=r"2 requests waiting, limit 2 \(max_queue_size\)")
    with batcher.admit(1, 1, None), batcher.admit(1, 1, None), full:
        batcher.admit(1, 1, None)
    assert batcher.waiting_items == 0


async def test_what_cannot_be_answered_in_time_is_refused_at_the_door(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher()
    measured(batcher, item_s=1.0)
    soon = time.monotonic() + 10
    with (
        batcher.admit(5, 20, None),
        pytest.raises(Overloaded, match=r"5 items wait; the answer would take about 6\.000 s"),
    ):
        batcher.admit(1, 4, soon)
    with batcher.admit(1, 4, soon):
        pass


async def test_a_deadline_that_is_over_is_refused(make_batcher: Any) -> None:
    with pytest.raises(DeadlinePassed):
        make_batcher().admit(1, 4, time.monotonic() - 1)


async def test_what_a_batch_costs_by_itself_is_counted_once_for_those_that_share_it(
    make_batcher: Any, engine: Any
) -> None:
    batcher = make_batcher(max_batch_size=64)
    (cost,) = batcher.costs.values()
    for items in (1, 16, 1, 1, 1, 1):  # mostly alone, until now
        cost.learn(items, 4 * items, 0.1 + 0.001 * items)
    engine.gate.clear()
    first = asyncio.create_task(ask(batcher, row(0)))
    await engine.busy()
    waiting = [asyncio.create_task(ask(batcher, row(i))) for i in range(30)]
    await asyncio.sleep(0)
    now = time.monotonic()
    with batcher.admit(1, 4, now + 1.0):  # 0.1 s runs, 31 items take 0.13 s together, and alone 3 s
        pass
    with pytest.raises(Overloaded), batcher.admit(1, 4, now + 0.3):
        pass
    engine.gate.set()
    await asyncio.gather(first, *waiting)


async def test_a_job_past_its_deadline_is_dropped_and_never_run(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher()
    engine.gate.clear()
    first = asyncio.create_task(ask(batcher, row(0)))
    await engine.busy()
    deadline = time.monotonic() + 0.05
    late = asyncio.create_task(ask(batcher, row(1), deadline))
    await reached(deadline + 0.001)
    engine.gate.set()
    with pytest.raises(DeadlinePassed, match="the deadline is over"):
        await late
    await first
    assert [rows for rows, _ in engine.runs] == [1]


async def test_a_job_past_its_queue_timeout_is_answered_with_an_error(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher(queue_timeout_s=0.02)
    engine.gate.clear()
    first = asyncio.create_task(ask(batcher, row(0)))
    await engine.busy()
    waits = asyncio.create_task(ask(batcher, row(1)))
    await reached(time.monotonic() + 0.021)
    engine.gate.set()
    with pytest.raises(DeadlinePassed, match="the queue timeout is over"):
        await waits
    await first


async def test_a_caller_that_leaves_gives_its_room_back(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher()
    engine.gate.clear()
    first = asyncio.create_task(ask(batcher, row(0)))
    await engine.busy()
    leaving = asyncio.create_task(ask(batcher, row(1)))
    await asyncio.sleep(0)
    assert batcher.waiting_items == 1
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert batcher.waiting_items == 0
    engine.gate.set()
    await first
    assert [rows for rows, _ in engine.runs] == [1]


async def test_what_the_engine_does_not_take_is_refused_before_it_queues(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher()
    good = [ask(batcher, row(i)) for i in range(3)]
    answers = await asyncio.gather(*good, ask(batcher, row(*range(21))), return_exceptions=True)
    assert isinstance(answers[3], InvalidRequest)
    assert "21 values per row; at most 20" in str(answers[3])
    assert [float(a.outputs["y"][0, 0]) for a in answers[:3] if isinstance(a, Done)] == [0, 2, 4]
    assert [rows for rows, _ in engine.runs] == [3]
    assert batcher.waiting_items == 0


async def test_a_failing_item_fails_alone(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher()
    values = [1.0, 2.0, float("nan"), 4.0, 5.0]
    results = await asyncio.gather(*(ask(batcher, row(v)) for v in values), return_exceptions=True)
    assert isinstance(results[2], InferenceFailed)
    assert "error_id" in str(results[2])
    assert "poison" not in str(results[2])
    good = [float(r.outputs["y"][0, 0]) for r in results if isinstance(r, Done)]
    assert good == [2, 4, 8, 10]


async def test_a_closed_batcher_answers_what_it_accepted_and_nothing_more(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher()
    engine.gate.clear()
    accepted = asyncio.create_task(ask(batcher, row(3)))
    await engine.busy()
    draining = asyncio.create_task(batcher.drain())
    await asyncio.sleep(0)
    with pytest.raises(NotServing):
        batcher.admit(1, 4, None)
    assert not draining.done()
    engine.gate.set()
    await draining
    assert float((await accepted).outputs["y"][0, 0]) == 6


async def test_two_models_on_one_device_take_turns(make_batcher: Any, engine: Any) -> None:
    one, two = make_batcher(max_batch_size=1), make_batcher(max_batch_size=1)
    engine.gate.clear()
    order: list[str] = []

    async def named(batcher: Batcher, name: str) -> None:
        await ask(batcher, row(0))
        order.append(name)

    tasks = [asyncio.create_task(named(one, "one")) for _ in range(4)]
    tasks += [asyncio.create_task(named(two, "two")) for _ in range(4)]
    await engine.busy()
    engine.gate.set()
    await asyncio.gather(*tasks)
    assert order == ["one", "two"] * 4


async def test_a_rejection_stands_no_longer_than_the_batch_that_it_waited_for(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher()
    measured(batcher, item_s=20.0)
    engine.gate.clear()
    first = asyncio.create_task(ask(batcher, row(0)))
    await engine.busy()
    with batcher.admit(1, 4, None):  # as a pipeline's later step, whose job does not come for long
        with pytest.raises(TooLate) as caught:
            batcher.check_time(4, time.monotonic() + 40)
        ended: list[None] = []
        assert caught.value.standstill is not None
        caught.value.standstill.then(lambda: ended.append(None))
        assert not ended
        engine.gate.set()
        await first
        assert ended, "nothing has left the queue, but now the device is idle"


async def test_a_request_is_not_dropped_by_estimate_for_its_own_jobs(make_batcher: Any, engine: Any) -> None:
    """The tiles of one image on a device that nobody else uses: the estimate may be wrong, and else stays so."""
    batcher = make_batcher(lanes=2, max_batch_size=1)
    measured(batcher, item_s=1000.0)
    with batcher.admit(2, 8, time.monotonic() + 60) as admission:
        await asyncio.gather(*(admission.run(row(each)) for each in (1, 2)))
    assert engine.runs == [(1, False)] * 2
