"""The queue of one model: what waits, what may leave now, and in which order. Knows no engine and no device.

Clients (connections or API keys) take turns, so that one with thousands of requests does not keep another waiting.
The requests of one client leave in the order of their arrival, small ones before large ones: a request computed to the
end is worth more than several begun. Jobs wait in buckets, one for each input shape, since only jobs of equal shapes
can share a batch. A request reserves its share of the queue once; the reservation shrinks as its jobs leave.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

from server.batching.job import Client, Job, Ticket, Turn
from server.errors import Overloaded


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
    target_s: float = 0.0  # how long requests without a deadline may be expected to take


class Dropped(NamedTuple):
    """A job that left the queue without being run.

    `reason`: "cancelled" by its caller; its "deadline" or queue "timeout" is over; or "overloaded": it cannot be ready
    before its deadline.
    """

    job: Job
    reason: str


class Taken(NamedTuple):
    """The next batch's jobs, of one shape; none if nothing may leave now. `wait_s`: not before so many seconds, if a
    queue delay holds back a partial batch; 0 if not."""

    jobs: list[Job]
    dropped: list[Dropped]
    wait_s: float


class _Rotation:
    """Clients in turn, each with a heap of what its requests have waiting. `items`: of all of them."""

    __slots__ = ("items", "lines", "order")

    def __init__(self) -> None:
        self.items = 0
        self.lines: dict[Client, list[Turn]] = {}
        self.order: deque[Client] = deque()

    def add(self, client: Client, turn: Turn) -> None:
        line = self.lines.get(client)
        if line is None:
            line = self.lines[client] = []
            self.order.append(client)
        heapq.heappush(line, turn)

    def pick(self, head: Callable[[list[Turn]], Turn | None]) -> Turn | None:
        """What the client whose turn it is has first; it goes to the back. `head`: the first live turn of a heap."""
        late: Turn | None = None
        for _ in range(len(self.order)):
            client = self.order[0]
            turn = head(self.lines[client])
            if turn is None:
                self.order.popleft()
                del self.lines[client]
                continue
            self.order.rotate(-1)
            if not turn.late:
                return turn
            late = late or turn
        return late


class FairQueue:
    """Every job of one model that waits, and every count of them. Loop thread only.

    `items`, `nbytes`, `seconds` (estimated): reserved and not yet in a batch. `requests`: those of which no job has
    left yet.
    """

    def __init__(self, policy: Policy) -> None:
        self.items = 0
        self.nbytes = 0
        self.seconds = 0.0
        self.requests = 0
        self._policy = policy
        self._max_batch_size = max(1, policy.max_batch_size)
        self._clients: dict[str, Client] = {}  # those with an admitted request
        self._all = _Rotation()
        self._buckets: dict[Hashable, _Rotation] = {}  # by shape
        self._numbers = itertools.count()

    def client(self, key: str) -> Client:
        """The client of that key; a new one until it has reserved something."""
        return self._clients.get(key) or Client(key)

    def wait_s(self, client: Client, seconds: float) -> float:
        """About how long a request of so many seconds would wait and run, were it admitted now.

        Before it, its client's earlier requests run, and of each other client at most as much as of this one.
        """
        own = client.seconds + seconds
        others = len(self._clients) - (client.key in self._clients)
        return own + min(self.seconds - client.seconds, own * others)

    def reserve(self, ticket: Ticket) -> None:
        """Takes the room that the request needs, all of it or none.

        A client below its fair share of the queue is admitted even if others fill it, so up to twice the limit waits.

        Raises:
            Overloaded: a limit would be passed; the text names it.
        """
        policy, client = self._policy, ticket.client
        shares = len(self._clients) + (client.key not in self._clients)
        items, nbytes = policy.max_queue_rows, policy.max_queue_bytes
        if self.items + ticket.items > items and client.items + ticket.items > items // shares:
            raise Overloaded(
                f"{ticket.items} items requested, {self.items} waiting, limit {items} (max_queue_rows)"
            )  # fmt: skip
        if self.nbytes + ticket.nbytes > nbytes and client.nbytes + ticket.nbytes > nbytes // shares:
            raise Overloaded(
                f"{ticket.nbytes} bytes requested, {self.nbytes} waiting, limit {nbytes} (max_queue_bytes)"
            )  # fmt: skip
        if policy.max_queue_requests and self.requests >= policy.max_queue_requests:
            raise Overloaded(
                f"{self.requests} requests waiting, limit {policy.max_queue_requests} (max_queue_size)"
            )  # fmt: skip
        self._clients[client.key] = client
        client.requests += 1
        self.requests += 1
        self._count(ticket, ticket.items, ticket.nbytes)

    def push(self, job: Job) -> None:
        """Queues a job behind the others of its request. What it needs beyond the reservation is counted in addition:
        a stream reserves only what it has in flight at once."""
        ticket, shape = job.ticket, job.shape
        items, nbytes = min(job.items, ticket.unpushed), min(job.nbytes, ticket.unpushed_bytes)
        ticket.unpushed -= items
        ticket.unpushed_bytes -= nbytes
        if items < job.items or nbytes < job.nbytes:
            ticket.items += job.items - items
            ticket.nbytes += job.nbytes - nbytes
            self._count(ticket, job.items - items, job.nbytes - nbytes)
        turn = ticket.turns.get(shape)
        if turn is None:
            turn = ticket.turns[shape] = Turn(ticket.order, next(self._numbers), shape)
        if shape not in self._buckets:
            self._buckets[shape] = _Rotation()
        if not turn.jobs:
            self._enter(ticket.client, turn)
        turn.jobs.append(job)
        self._all.items += job.items
        self._buckets[shape].items += job.items

    def take(
        self, now: float, lanes: int, max_items: int, estimate: Callable[[int, int], float], is_idle: bool
    ) -> Taken:
        """The next batch, of the shape that the client whose turn it is has first, from all clients that have it.

        Args:
            now: the monotonic clock.
            lanes: free lanes; the items that wait are shared out over them.
            max_items: beyond these a longer batch gains nothing.
            estimate: (bytes, bytes of an item) -> the seconds that a job takes at least.
            is_idle: nothing runs on the device. Then no job is dropped by estimate: the estimate may be wrong.
        """
        dropped: list[Dropped] = []
        wait_s = 0.0

        def head(heap: list[Turn]) -> Turn | None:
            return self._head(heap, now, None if is_idle else estimate, dropped)

        for _ in range(len(self._all.order)):
            turn = self._all.pick(head)
            if turn is None:
                break
            bucket = self._buckets[turn.shape]
            limit, hold_s = self._limit(bucket.items, now - turn.jobs[0].queued_at, lanes, max_items)
            if limit:
                return Taken(self._fill(bucket, limit, head), dropped, 0.0)
            wait_s = min(wait_s or hold_s, hold_s)
        return Taken([], dropped, wait_s)

    def cancel(self, ticket: Ticket) -> list[Job]:
        """Takes out what the request still has waiting, its reservation too; the jobs that were waiting."""
        cancelled: list[Job] = []
        for turn in ticket.turns.values():
            while turn.jobs:
                cancelled.append(self._pop(turn))
        self._release(ticket, ticket.items, ticket.nbytes)
        ticket.client.requests -= 1
        if not ticket.client.requests:
            del self._clients[ticket.client.key]
        return cancelled

    def __bool__(self) -> bool:
        """Whether a job waits."""
        return self._all.items > 0

    def _fill(self, bucket: _Rotation, limit: int, head: Callable[[list[Turn]], Turn | None]) -> list[Job]:
        """Jobs of up to `limit` items, from each client in turn; one job at least, even if it is larger."""
        jobs: list[Job] = []
        items = 0
        while items < limit and (turn := bucket.pick(head)) is not None:
            if jobs and items + turn.jobs[0].items > limit:
                break
            jobs.append(self._remove(turn))
            items += jobs[-1].items
        return jobs

    def _enter(self, client: Client, turn: Turn) -> None:
        self._all.add(client, turn)
        self._buckets[turn.shape].add(client, turn)

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

    def _head(
        self, heap: list[Turn], now: float, estimate: Callable[[int, int], float] | None, dropped: list[Dropped]
    ) -> Turn | None:
        """The first turn with a job, after dropping jobs whose caller left or whose time is over."""
        while heap:
            turn = heap[0]
            if not turn.jobs:
                heapq.heappop(heap)
                continue
            job = turn.jobs[0]
            ticket = job.ticket
            if job.future.done():
                dropped.append(Dropped(self._remove(turn), "cancelled"))
            elif ticket.deadline is not None and now > ticket.deadline:
                dropped.append(Dropped(self._remove(turn), "deadline"))
            elif (
                estimate is not None
                and ticket.deadline is not None
                and now + estimate(job.nbytes, job.nbytes // job.items) > ticket.deadline
            ):
                dropped.append(Dropped(self._remove(turn), "overloaded"))
            elif ticket.timeout_at is not None and now > ticket.timeout_at and not turn.late:
                if self._policy.delays_on_timeout:
                    self._delay(ticket, turn)
                else:
                    dropped.append(Dropped(self._remove(turn), "timeout"))
            else:
                return turn
        return None

    def _delay(self, ticket: Ticket, turn: Turn) -> None:
        """Sends a turn behind all that are in time: as another one, since a heap must not see its order change."""
        late = ticket.turns[turn.shape] = Turn(turn.order, turn.number, turn.shape, late=True)
        late.jobs, turn.jobs = turn.jobs, late.jobs
        self._enter(ticket.client, late)

    def _remove(self, turn: Turn) -> Job:
        """Takes out a turn's first job and gives its room back."""
        job = self._pop(turn)
        self._release(job.ticket, job.items, job.nbytes)
        return job

    def _pop(self, turn: Turn) -> Job:
        job = turn.jobs.popleft()
        self._all.items -= job.items
        bucket = self._buckets[turn.shape]
        bucket.items -= job.items
        if not bucket.items:
            del self._buckets[turn.shape]
        return job

    def _release(self, ticket: Ticket, items: int, nbytes: int) -> None:
        """Gives back room; the request has begun, or will never."""
        ticket.items -= items
        ticket.nbytes -= nbytes
        self._count(ticket, -items, -nbytes)
        if not ticket.started:
            ticket.started = True
            self.requests -= 1

    def _count(self, ticket: Ticket, items: int, nbytes: int) -> None:
        seconds = nbytes * ticket.second_per_byte
        for counted in (self, ticket.client):
            counted.items += items
            counted.nbytes += nbytes
            counted.seconds += seconds
