"""The queue of one model: what waits, what may leave now, and in which order. Knows no engine and no device.

Jobs wait in buckets, one for each input shape, since only jobs of equal shapes can share a batch. In a bucket the
requests take turns and each gives one job at a time, so that a request for 2,000 images does not keep the others out.
A request reserves its share of the queue once, for all of its jobs; the reservation shrinks as they leave.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from server.engines.base import Arrays
from server.errors import Overloaded
from server.observability.context import RequestContext


@dataclass(frozen=True)
class Policy:
    """How one model queues: Triton's `dynamic_batching` and the server's limits. Zero: no such limit."""

    max_batch_size: int  # 0: the graph has no batch axis
    max_queue_rows: int  # items of the batch axis
    max_queue_bytes: int
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_s: float = 0.0
    max_queue_requests: int = 0
    queue_timeout_s: float = 0.0
    delays_on_timeout: bool = False  # past the queue timeout: behind all others, instead of rejected
    allows_timeout_override: bool = False


class Ticket:
    """One request's share of the queue. `deadline`, `timeout_at`: on the monotonic clock, None for none.

    `items`, `nbytes`: what is reserved and has not left the queue yet. `request`: whose it is, None outside of an RPC.
    """

    __slots__ = ("deadline", "items", "jobs", "nbytes", "request", "started", "timeout_at")

    def __init__(
        self, items: int, nbytes: int, deadline: float | None, timeout_at: float | None, request: RequestContext | None
    ) -> None:
        self.items = items
        self.nbytes = nbytes
        self.deadline = deadline
        self.timeout_at = timeout_at
        self.request = request
        self.started = False  # whether a first job has left the queue
        self.jobs: dict[Hashable, deque[Job]] = {}  # those that wait, by shape


@dataclass(frozen=True, slots=True)
class Done:
    """One job's items of the outputs, and how the batch went that it was in. Durations in seconds."""

    outputs: dict[str, NDArray[Any]]
    batch_size: int
    queue_s: float
    input_s: float
    compute_s: float
    output_s: float


class Job:
    """What runs in one piece: arrays with an equal number of items, or of a model without a batch axis."""

    __slots__ = ("arrays", "future", "items", "nbytes", "queued_at", "shape", "ticket")

    def __init__(self, ticket: Ticket, arrays: Arrays, batched: bool) -> None:
        self.ticket = ticket
        self.arrays = arrays
        self.items = len(next(iter(arrays.values()))) if batched else 1
        self.nbytes = sum(array.nbytes for array in arrays.values())
        # Jobs of equal trailing shapes can share a batch. The names tell apart which optional inputs are given.
        self.shape = tuple((name, array.shape[1:] if batched else array.shape) for name, array in arrays.items())
        self.queued_at = time.monotonic()
        self.future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()


class Dropped(NamedTuple):
    """A job that left the queue without being run. `reason`: "cancelled", "deadline" or "timeout"."""

    job: Job
    reason: str


class Taken(NamedTuple):
    """The next batch's jobs, of one shape; none if nothing may leave now. `wait_s`: not before so many seconds, if a
    queue delay holds back a partial batch; 0 if not."""

    jobs: list[Job]
    dropped: list[Dropped]
    wait_s: float


class _Bucket:
    """The jobs of one shape, by request. Requests past a queue timeout with DELAY come after all others."""

    __slots__ = ("items", "late", "turns")

    def __init__(self) -> None:
        self.items = 0
        self.turns: deque[deque[Job]] = deque()
        self.late: deque[deque[Job]] = deque()

    def head(self) -> Job | None:
        """The job whose turn it is."""
        queue = self._front()
        return queue[0][0] if queue else None

    def pop(self) -> Job:
        """Takes the head; its request goes to the back with what it still has."""
        queue = self._front()
        jobs = queue.popleft()
        job = jobs.popleft()
        self.items -= job.items
        if jobs:
            queue.append(jobs)
        return job

    def is_late(self) -> bool:
        """Whether the head is past its queue timeout and was sent behind the others before."""
        return self._front() is self.late

    def delay_head(self) -> None:
        """Sends the request whose turn it is behind all that are in time."""
        self.late.append(self.turns.popleft())

    def _front(self) -> deque[deque[Job]]:
        for queue in (self.turns, self.late):
            while queue and not queue[0]:  # its request was cancelled
                queue.popleft()
            if queue:
                return queue
        return self.turns


class FairQueue:
    """Every job of one model that waits, and every count of them. Loop thread only.

    `items`, `nbytes`: reserved and not yet in a batch. `requests`: those of which no job has left yet.
    """

    def __init__(self, policy: Policy) -> None:
        self.items = 0
        self.nbytes = 0
        self.requests = 0
        self._policy = policy
        self._max_batch_size = max(1, policy.max_batch_size)
        self._buckets: dict[Hashable, _Bucket] = {}

    def reserve(self, ticket: Ticket) -> None:
        """Takes the room that the request needs, all of it or none.

        Raises:
            Overloaded: a limit would be passed; the text names it.
        """
        policy = self._policy
        if self.items + ticket.items > policy.max_queue_rows:
            raise Overloaded(
                f"{ticket.items} items requested, {self.items} waiting, limit {policy.max_queue_rows} (max_queue_rows)"
            )
        if self.nbytes + ticket.nbytes > policy.max_queue_bytes:
            raise Overloaded(
                f"{ticket.nbytes} bytes requested, {self.nbytes} waiting, limit {policy.max_queue_bytes} "
                "(max_queue_bytes)"
            )
        if policy.max_queue_requests and self.requests >= policy.max_queue_requests:
            raise Overloaded(
                f"{self.requests} requests waiting, limit {policy.max_queue_requests} (max_queue_size)"
            )  # fmt: skip
        self.items += ticket.items
        self.nbytes += ticket.nbytes
        self.requests += 1

    def push(self, job: Job) -> None:
        """Queues a job behind the others of its request."""
        bucket = self._buckets.get(job.shape)
        if bucket is None:
            bucket = self._buckets[job.shape] = _Bucket()
        jobs = job.ticket.jobs.get(job.shape)
        if jobs is None:
            jobs = job.ticket.jobs[job.shape] = deque()
        if not jobs:
            bucket.turns.append(jobs)
        jobs.append(job)
        bucket.items += job.items

    def take(self, now: float, lanes: int, max_items: int, second_per_byte: float) -> Taken:
        """The next batch, from the bucket whose head has waited longest.

        Args:
            now: the monotonic clock.
            lanes: free lanes; the items that wait are shared out over them.
            max_items: beyond these a longer batch gains nothing.
            second_per_byte: the time that a byte of input takes on the fastest device; a job that cannot be ready
                before its deadline even so is dropped.
        """
        dropped: list[Dropped] = []
        oldest: tuple[float, _Bucket] | None = None
        for shape, bucket in list(self._buckets.items()):
            head = self._live_head(bucket, now, second_per_byte, dropped)
            if head is None:
                del self._buckets[shape]
            elif oldest is None or head.queued_at < oldest[0]:
                oldest = (head.queued_at, bucket)
        if oldest is None:
            return Taken([], dropped, 0.0)
        queued_at, bucket = oldest
        limit, wait_s = self._limit(bucket.items, now - queued_at, lanes, max_items)
        jobs: list[Job] = []
        items = 0
        while items < limit and (head := self._live_head(bucket, now, second_per_byte, dropped)) is not None:
            if jobs and items + head.items > limit:
                break
            jobs.append(self._pop(bucket))
            items += head.items
        return Taken(jobs, dropped, wait_s)

    def cancel(self, ticket: Ticket) -> Iterable[Job]:
        """Takes out what the request still has waiting, its reservation too; the jobs that were waiting."""
        cancelled: list[Job] = []
        for shape, jobs in ticket.jobs.items():
            if jobs:
                self._buckets[shape].items -= sum(job.items for job in jobs)
                cancelled.extend(jobs)
                jobs.clear()
        self._release(ticket, ticket.items, ticket.nbytes)
        return cancelled

    def __bool__(self) -> bool:
        """Whether a job waits."""
        return any(bucket.head() is not None for bucket in self._buckets.values())

    def _limit(self, items: int, waited_s: float, lanes: int, max_items: int) -> tuple[int, float]:
        """Items that may leave now, 0 while a partial batch may still wait for more requests, and for how long."""
        policy = self._policy
        fitting = [size for size in policy.preferred_batch_sizes if size <= items]
        if policy.max_queue_delay_s and not fitting and items < self._max_batch_size:
            if waited_s < policy.max_queue_delay_s:
                return 0, policy.max_queue_delay_s - waited_s
        elif fitting:
            return max(fitting), 0.0
        elif policy.max_queue_delay_s:
            lanes = 1  # a full batch leaves whole: the rest of one that was shared out would wait for the delay again
        return min(math.ceil(items / lanes), max_items), 0.0

    def _live_head(self, bucket: _Bucket, now: float, second_per_byte: float, dropped: list[Dropped]) -> Job | None:
        """The job whose turn it is, after dropping those whose caller left or whose time is over."""
        while (job := bucket.head()) is not None:
            ticket = job.ticket
            if job.future.done():
                dropped.append(Dropped(self._pop(bucket), "cancelled"))
            elif ticket.deadline is not None and now + job.nbytes * second_per_byte > ticket.deadline:
                dropped.append(Dropped(self._pop(bucket), "deadline"))
            elif ticket.timeout_at is not None and now > ticket.timeout_at and not bucket.is_late():
                if self._policy.delays_on_timeout:
                    bucket.delay_head()
                else:
                    dropped.append(Dropped(self._pop(bucket), "timeout"))
            else:
                return job
        return None

    def _pop(self, bucket: _Bucket) -> Job:
        job = bucket.pop()
        self._release(job.ticket, job.items, job.nbytes)
        return job

    def _release(self, ticket: Ticket, items: int, nbytes: int) -> None:
        """Gives back room, never more than the request still has reserved."""
        items, nbytes = min(items, ticket.items), min(nbytes, ticket.nbytes)
        ticket.items -= items
        ticket.nbytes -= nbytes
        self.items -= items
        self.nbytes -= nbytes
        if not ticket.started:
            ticket.started = True
            self.requests -= 1
