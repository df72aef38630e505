"""The queue by itself: no engine, no device, and the clock is a number."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.batching.queue import FairQueue, Job, Policy, Taken, Ticket
from server.errors import Overloaded


def queue(max_batch_size: int = 8, **policy: Any) -> FairQueue:
    limits: dict[str, Any] = {"max_queue_rows": 100, "max_queue_bytes": 1 << 20, **policy}
    return FairQueue(Policy(max_batch_size, **limits))


def request(
    waiting: FairQueue, items: int = 1, deadline: float | None = None, timeout_at: float | None = None
) -> Ticket:
    ticket = Ticket(items, 4 * items, deadline, timeout_at, None)
    waiting.reserve(ticket)
    return ticket


def push(waiting: FairQueue, ticket: Ticket, queued_at: float = 0.0, items: int = 1, width: int = 1) -> Job:
    job = Job(ticket, {"x": np.zeros((items, width), np.float32)}, batched=True)
    job.queued_at = queued_at
    waiting.push(job)
    return job


def take(
    waiting: FairQueue, now: float = 0.0, lanes: int = 1, max_items: int = 8, second_per_byte: float = 0.0
) -> Taken:
    return waiting.take(now, lanes, max_items, second_per_byte)


async def test_nothing_leaves_an_empty_queue() -> None:
    waiting = queue()
    assert take(waiting) == ([], [], 0.0)
    assert not waiting


async def test_requests_of_one_shape_take_turns() -> None:
    waiting = queue()
    large, small = request(waiting, 3), request(waiting)
    jobs = [push(waiting, large) for _ in range(3)]
    other = push(waiting, small)
    assert take(waiting, max_items=2).jobs == [jobs[0], other]
    assert take(waiting, max_items=2).jobs == jobs[1:]


async def test_the_shape_that_waited_longest_leaves_first() -> None:
    waiting = queue()
    wide = push(waiting, request(waiting), queued_at=2.0, width=2)
    narrow = push(waiting, request(waiting), queued_at=1.0)
    assert take(waiting).jobs == [narrow]
    assert take(waiting).jobs == [wide]


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


async def test_a_job_larger_than_announced_gives_back_what_was_reserved_and_no_more() -> None:
    waiting = queue()
    push(waiting, request(waiting, 1), items=5)
    other = request(waiting, 2)
    take(waiting)
    assert (waiting.items, waiting.nbytes) == (other.items, other.nbytes)


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
    taken = take(waiting, now=9.0, second_per_byte=0.5)  # 4 bytes: 2 s
    assert taken == ([timely], [(late, "deadline")], 0.0)
    assert waiting.items == 0


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


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.booleans()), max_size=30), st.integers(1, 8))
async def test_every_job_leaves_once_and_the_counts_return_to_zero(
    requests: list[tuple[int, int, bool]], max_items: int
) -> None:
    waiting = queue(max_queue_rows=1000)
    pushed, cancelled = [], []
    for jobs, width, leaves in requests:
        ticket = request(waiting, jobs)
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
