"""The queue by itself: no engine, no device, and the clock is a number."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.batching.job import Job, Ticket
from server.batching.policy import LevelPolicy, Policy
from server.batching.queue import FairQueue, Taken
from server.errors import Overloaded


def queue(max_batch_size: int = 8, **policy: Any) -> FairQueue:
    limits: dict[str, Any] = {"max_queue_rows": 100, "max_queue_bytes": 1 << 20, **policy}
    return FairQueue(Policy(max_batch_size, **limits))


def leveled(*levels: LevelPolicy, **policy: Any) -> FairQueue:
    return queue(levels=levels or (LevelPolicy(),) * 3, default_level=2, **policy)


def request(waiting: FairQueue, items: int = 1, client: str = "", priority: int = 0, **ticket: Any) -> Ticket:
    made = Ticket(waiting.client(client, priority), items, 4 * items, **ticket)
    waiting.reserve(made)
    return made


def push(waiting: FairQueue, ticket: Ticket, queued_at: float = 0.0, items: int = 1, width: int = 1) -> Job:
    job = Job(ticket, {"x": np.zeros((items, width), np.float32)}, batched=True)
    job.queued_at = queued_at
    waiting.push(job)
    return job


def take(
    waiting: FairQueue,
    now: float = 0.0,
    lanes: int = 1,
    max_items: int = 8,
    estimate: Callable[[int, int], float] = lambda nbytes, item_bytes: 0.0,
    is_idle: bool = False,
) -> Taken:
    return waiting.take(now, lanes, lambda _: max_items, estimate, is_idle)


async def test_nothing_leaves_an_empty_queue() -> None:
    waiting = queue()
    assert take(waiting) == ([], [], 0.0)
    assert not waiting


async def test_clients_take_turns_job_by_job() -> None:
    waiting = queue()
    greedy = [push(waiting, request(waiting, client="greedy")) for _ in range(5)]
    other = push(waiting, request(waiting, client="other"))
    assert take(waiting, max_items=2).jobs == [greedy[0], other]


async def test_requests_of_one_client_are_computed_one_after_the_other() -> None:
    waiting = queue()
    first, second = request(waiting, 3), request(waiting, 3)
    later = [push(waiting, second), push(waiting, second)]
    jobs = [push(waiting, first) for _ in range(3)]
    assert take(waiting, max_items=2).jobs == later, "by arrival of their jobs if they have the same order"
    assert take(waiting, max_items=2).jobs == jobs[:2]


async def test_a_request_of_lower_order_goes_first() -> None:
    waiting = queue()
    large = push(waiting, request(waiting, order=8.0))
    small = push(waiting, request(waiting, order=1.0))
    assert take(waiting, max_items=1).jobs == [small]
    assert take(waiting, max_items=1).jobs == [large]


async def test_a_client_of_many_shapes_does_not_keep_others_waiting() -> None:
    waiting = queue()
    for width in range(2, 50):
        push(waiting, request(waiting, client="greedy"), width=width)
    other = push(waiting, request(waiting, client="other"), queued_at=1.0)
    assert other in [*take(waiting).jobs, *take(waiting).jobs]


async def test_a_client_below_its_share_is_admitted_to_a_queue_that_another_fills() -> None:
    waiting = queue(max_queue_rows=10)
    request(waiting, 10, client="greedy")
    with pytest.raises(Overloaded):
        request(waiting, 1, client="greedy")
    request(waiting, 5, client="other")
    with pytest.raises(Overloaded):
        request(waiting, 1, client="other")


@pytest.mark.parametrize("priority", [0, 3])
async def test_many_clients_do_not_fill_more_than_twice_the_limit(priority: int) -> None:
    waiting = leveled(max_queue_rows=10) if priority else queue(max_queue_rows=10)
    for number in range(1000):
        with contextlib.suppress(Overloaded):
            request(waiting, client=f"{number // 10}", priority=priority)
    assert waiting.items == (15 if priority else 20)
    if priority:
        request(waiting, 5, client="urgent", priority=1)


async def test_a_stream_reserves_what_it_has_in_flight_and_no_more() -> None:
    waiting = queue()
    stream = request(waiting, 2)  # of many more
    for _ in range(20):
        push(waiting, stream)
        push(waiting, stream)
        assert waiting.items == 2
        assert len(take(waiting).jobs) == 2
        assert waiting.items == 0
    waiting.cancel(stream)
    assert (waiting.items, waiting.nbytes) == (0, 0)


async def test_the_wait_of_a_client_is_its_share_and_not_the_whole_queue() -> None:
    waiting = queue(max_queue_rows=10_000)
    request(waiting, 1000, client="greedy", second_per_byte=0.25)  # 1000 s
    assert waiting.wait_s(waiting.client("greedy"), 1.0) == 1001.0
    assert waiting.wait_s(waiting.client("other"), 1.0) == 2.0


async def test_the_counts_are_of_what_has_not_left() -> None:
    waiting = queue()
    ticket = request(waiting, 3)
    assert (waiting.items, waiting.nbytes, waiting.requests) == (3, 12, 1)
    assert not waiting, "admitted, but no job has come yet"
    push(waiting, ticket)
    take(waiting)
    assert (waiting.items, waiting.nbytes, waiting.requests) == (2, 8, 0)
    waiting.cancel(ticket)
    assert (waiting.items, waiting.nbytes, waiting.requests) == (0, 0, 0)


async def test_a_cancelled_request_leaves_nothing_behind() -> None:
    waiting = queue()
    leaving, staying = request(waiting, 2), request(waiting)
    gone = [push(waiting, leaving), push(waiting, leaving, width=2)]
    kept = push(waiting, staying)
    assert waiting.cancel(leaving) == gone
    assert take(waiting, max_items=8).jobs == [kept]
    assert not waiting
    assert waiting.items == 0


@pytest.mark.parametrize(
    ("policy", "items", "text"),
    [
        ({"max_queue_rows": 3}, 4, r"4 items requested, 0 waiting, limit 3 \(max_queue_rows\)"),
        ({"max_queue_bytes": 7}, 2, r"8 bytes requested, 0 waiting, limit 7 \(max_queue_bytes\)"),
    ],
)
async def test_what_does_not_fit_reserves_nothing(policy: dict[str, int], items: int, text: str) -> None:
    waiting = queue(**policy)
    with pytest.raises(Overloaded, match=text):
        request(waiting, items)
    assert (waiting.items, waiting.nbytes, waiting.requests) == (0, 0, 0)


async def test_the_number_of_waiting_requests_has_a_limit() -> None:
    waiting = queue(max_queue_requests=1)
    first = request(waiting)
    with pytest.raises(Overloaded, match=r"1 requests waiting, limit 1 \(max_queue_size\)"):
        request(waiting)
    push(waiting, first)
    take(waiting)
    request(waiting)


async def test_a_job_that_cannot_be_ready_before_its_deadline_is_dropped() -> None:
    waiting = queue()
    late, timely = (push(waiting, request(waiting, deadline=deadline)) for deadline in (10.0, 11.0))
    taken = take(waiting, now=9.0, estimate=lambda nbytes, _: nbytes * 0.5)  # 4 bytes: 2 s
    assert taken == ([timely], [(late, "overloaded")], 0.0)
    assert waiting.items == 0


async def test_an_idle_device_takes_what_the_estimate_would_drop() -> None:
    waiting = queue()
    jobs = [push(waiting, request(waiting, deadline=10.0)) for _ in range(2)]
    assert take(waiting, now=9.0, estimate=lambda *_: 1000.0, is_idle=True).jobs == jobs


async def test_a_job_whose_deadline_is_over_is_dropped_even_by_an_idle_device() -> None:
    waiting = queue()
    job = push(waiting, request(waiting, deadline=10.0))
    assert take(waiting, now=10.1, is_idle=True) == ([], [(job, "deadline")], 0.0)


async def test_a_job_whose_caller_left_is_dropped() -> None:
    waiting = queue()
    job = push(waiting, request(waiting))
    job.future.cancel()
    assert take(waiting) == ([], [(job, "cancelled")], 0.0)


@pytest.mark.parametrize("delays", [False, True])
async def test_the_queue_timeout_drops_or_sends_to_the_back(delays: bool) -> None:
    waiting = queue(delays_on_timeout=delays)
    overdue = push(waiting, request(waiting, timeout_at=1.0))
    fresh = push(waiting, request(waiting, timeout_at=9.0))
    first = take(waiting, now=2.0, max_items=1)
    assert first == ([fresh], [] if delays else [(overdue, "timeout")], 0.0)
    assert take(waiting, now=2.0).jobs == ([overdue] if delays else [])


async def test_a_partial_batch_is_held_back_for_the_rest_of_the_queue_delay() -> None:
    waiting = queue(max_batch_size=4, max_queue_delay_s=1.0)
    jobs = [push(waiting, request(waiting), queued_at=5.0)]
    assert take(waiting, now=5.25) == ([], [], 0.75)
    assert take(waiting, now=6.0).jobs == jobs


async def test_a_full_batch_is_not_shared_out_over_lanes_under_a_queue_delay() -> None:
    waiting = queue(max_batch_size=4, max_queue_delay_s=1.0)
    jobs = [push(waiting, request(waiting)) for _ in range(4)]
    assert take(waiting, lanes=2).jobs == jobs


async def test_what_waits_is_shared_out_over_the_free_lanes() -> None:
    waiting = queue()
    jobs = [push(waiting, request(waiting)) for _ in range(5)]
    assert take(waiting, lanes=2).jobs == jobs[:3]
    assert take(waiting, lanes=1).jobs == jobs[3:]


async def test_a_preferred_size_is_kept_if_enough_items_wait() -> None:
    waiting = queue(preferred_batch_sizes=(2, 4))
    for _ in range(7):
        push(waiting, request(waiting))
    assert [len(take(waiting).jobs) for _ in range(3)] == [4, 2, 1]


async def test_a_batch_is_filled_level_by_level_and_clients_take_turns_in_each() -> None:
    waiting = leveled()
    low = [push(waiting, request(waiting, client="low", priority=3)) for _ in range(2)]
    greedy = [push(waiting, request(waiting, client="greedy", priority=1)) for _ in range(3)]
    other = push(waiting, request(waiting, client="other", priority=1))
    default = push(waiting, request(waiting, client="low"))
    assert take(waiting, max_items=2).jobs == [greedy[0], other]
    assert take(waiting).jobs == [*greedy[1:], default, *low]


async def test_the_wait_of_a_level_is_what_runs_before_it() -> None:
    waiting = leveled(max_queue_rows=10_000)
    for priority in (1, 2, 3):
        request(waiting, 10, client="a", priority=priority, second_per_byte=0.25)  # 10 s each
    assert waiting.wait_s(waiting.client("b", 1), 1.0) == 2.0
    assert waiting.wait_s(waiting.client("b", 2), 1.0) == 12.0
    assert waiting.wait_s(waiting.client("a", 3), 1.0) == 31.0


async def test_late_requests_go_behind_their_level_and_not_behind_the_next() -> None:
    waiting = leveled(*(LevelPolicy(delays_on_timeout=True) for _ in range(2)))
    late = push(waiting, request(waiting, priority=1, timeout_at=1.0))
    fresh = push(waiting, request(waiting, priority=1, timeout_at=9.0))
    low = push(waiting, request(waiting, priority=2))
    assert take(waiting, now=2.0).jobs == [fresh, late, low]


async def test_a_level_that_waits_for_long_is_told_that_its_time_is_over() -> None:
    waiting = leveled()
    low = [push(waiting, request(waiting, client=str(each), priority=3, timeout_at=1.0)) for each in range(3)]
    dropped = []
    for _ in range(3):
        high = push(waiting, request(waiting, priority=1))
        taken = take(waiting, now=2.0, max_items=1)
        assert taken.jobs == [high]
        dropped += taken.dropped
    assert [(job, reason) for job, reason in dropped if reason == "timeout" and job in low] == dropped
    assert dropped, "although higher levels always had something"


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.booleans(), st.integers(0, 3)), max_size=30),
    st.integers(1, 8),
    st.booleans(),
)
async def test_every_job_leaves_once_and_the_counts_return_to_zero(
    requests: list[tuple[int, int, bool, int]], max_items: int, has_levels: bool
) -> None:
    waiting = leveled(max_queue_rows=1000) if has_levels else queue(max_queue_rows=1000)
    pushed, cancelled = [], []
    for jobs, width, leaves, priority in requests:
        ticket = request(waiting, jobs, priority=priority)
        mine = [push(waiting, ticket, width=width) for _ in range(jobs)]
        if leaves:
            assert waiting.cancel(ticket) == mine
            cancelled += mine
        else:
            pushed += mine
    left: list[Job] = []
    while (taken := take(waiting, max_items=max_items)).jobs:
        assert len({job.shape for job in taken.jobs}) == 1
        assert sum(job.items for job in taken.jobs) <= max_items
        left += taken.jobs
    assert sorted(map(id, left)) == sorted(map(id, pushed))
    assert (waiting.items, waiting.nbytes, waiting.requests) == (0, 0, 0)
