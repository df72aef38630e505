"""The queue of one model: what waits, what may leave now, and in which order. Knows no engine and no device.

Clients (connections or API keys) take turns, so that one with thousands of requests does not keep another waiting.
The requests of one client leave in the order of their arrival, small ones before large ones: a request computed to the
end is worth more than several begun. Jobs wait in buckets, one for each input shape, since only jobs of equal shapes
can share a batch. A request reserves its share of the queue once; the reservation shrinks as its jobs leave.

If the model has priority levels, what is of a higher one leaves first, whoever sent it; within a level clients take
turns. A batch may have jobs of several levels. Each level has a room of its own: what waits behind a request takes none
of it.
"""

import heapq
import itertools
import math
import time
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from server.batching.job import Client, Job, Level, Ticket, Turn
from server.batching.policy import Policy
from server.batching.rotation import Leveled, Rotation
from server.batching.standing import Standstill
from server.errors import CapacityError, DeadlinePassed, Overloaded


class Dropped(NamedTuple):
    """A job that left the queue without being run.

    `reason`: "cancelled" by its caller; its "deadline" or queue "timeout" is over; or "overloaded": it cannot be ready
    before its deadline.
    """

    job: Job
    reason: str

    def error(self) -> CapacityError | None:
        """What to tell its caller, None if that has left."""
        if self.reason == "cancelled":
            return None
        waited_s = time.monotonic() - self.job.queued_at
        if self.reason == "overloaded":
            return Overloaded(f"it waited {waited_s:.3f} s in the queue and cannot be ready before its deadline")
        what = "deadline" if self.reason == "deadline" else "queue timeout"
        return DeadlinePassed(f"the {what} is over; it waited {waited_s:.3f} s in the queue")


class Taken(NamedTuple):
    """The next batch's jobs, of one shape; none if nothing may leave now. `wait_s`: not before so many seconds, if a
    queue delay holds back a partial batch; 0 if not."""

    jobs: list[Job]
    dropped: list[Dropped]
    wait_s: float


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
        self._levels = [Level(index, each) for index, each in enumerate(policy.levels or (policy,))]
        self._all = self._rotation()
        self._buckets: dict[Hashable, Rotation | Leveled] = {}  # by shape
        self._numbers = itertools.count()
        self._standstill: Standstill | None = None

    @property
    def standstill(self) -> Standstill | None:
        """From now until something leaves, a client too, or `moves` is called. None with priority levels: what comes
        may be of another one."""
        if self._standstill is None and not self._policy.levels:
            self._standstill = Standstill()
        return self._standstill

    def moves(self) -> None:
        """What was rejected may not be any more."""
        if self._standstill is not None:
            self._standstill.end()
            self._standstill = None

    def client(self, key: str, priority: int = 0) -> Client:
        """The client of that key at the level of that priority; a new one until it has reserved something.

        Raises:
            InvalidRequest: the model has no such level.
        """
        level = self._levels[self._policy.level(priority) if self._policy.levels else 0]
        return level.clients.get(key) or Client(key, level)

    def wait_s(self, client: Client, seconds: float) -> float:
        """About how long a request of so many seconds would wait and run, were it admitted now.

        Before it, what is of higher levels runs, its client's earlier requests, and of each other client at most as
        much as of this one.
        """
        level = client.level
        own = client.seconds + seconds
        others = len(level.clients) - (client.key in level.clients)
        higher_s = sum([each.seconds for each in self._levels[: level.index]]) if level.index else 0.0
        return higher_s + own + min(level.seconds - client.seconds, own * others)

    def reserve(self, ticket: Ticket, own: Sequence[Ticket] = ()) -> None:
        """Takes the room that the request needs, all of it or none. `own`: its other tickets, which wait for no other
        request; with each of them alone it would fit.

        A client below its fair share of the queue is admitted even if others fill it, up to twice the limit in all.
        What is of lower levels is not counted, and leaves the last quarter of that to the highest level.

        Raises:
            Overloaded: a limit would be passed; the text names it.
        """
        client, level = ticket.client, ticket.client.level
        self._check_room(ticket, own, "items", self._policy.max_queue_rows, "max_queue_rows")
        self._check_room(ticket, own, "nbytes", self._policy.max_queue_bytes, "max_queue_bytes")
        most = level.policy.max_queue_requests
        if most and level.requests - len(own) >= most:
            raise Overloaded(f"{level.requests} requests waiting, limit {most} (max_queue_size)")
        level.clients[client.key] = client
        client.requests += 1
        level.requests += 1
        self.requests += 1
        self._count(ticket, ticket.items, ticket.nbytes)

    def _check_room(self, ticket: Ticket, own: Sequence[Ticket], field: str, limit: int, setting: str) -> None:
        client, level = ticket.client, ticket.client.level
        asked, waiting = getattr(ticket, field), getattr(self, field)
        higher = [getattr(each, field) for each in self._levels[: level.index]] if level.index else ()
        before = sum(higher, getattr(level, field))
        share = limit // (len(level.clients) + (client.key not in level.clients))
        most = limit + limit // 2 if level.index else 2 * limit
        more = asked - sum([getattr(each, field) for each in own]) if own else asked
        if (before + more > limit and getattr(client, field) + more > share) or waiting + more > most:
            what = "bytes" if field == "nbytes" else field
            raise Overloaded(f"{asked} {what} requested, {waiting} waiting, limit {limit} ({setting})")

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
            self._buckets[shape] = self._rotation()
        if not turn.jobs:
            self._enter(ticket.client, turn)
        turn.jobs.append(job)
        self._all.items += job.items
        self._buckets[shape].items += job.items

    def take(
        self,
        now: float,
        lanes: int,
        max_items: Callable[[int], int],
        estimate: Callable[[int, int], float],
        is_idle: bool,
    ) -> Taken:
        """The next batch, of the shape that the client whose turn it is has first, from all clients that have it.

        Args:
            now: the monotonic clock.
            lanes: free lanes; the items that wait are shared out over them.
            max_items: bytes of an item -> items beyond which a longer batch gains nothing.
            estimate: (bytes, bytes of an item) -> the seconds that a job takes at least.
            is_idle: nothing runs on the device, or only this one request is there. Then no job is dropped by estimate:
                the estimate may be wrong.
        """
        dropped: list[Dropped] = []
        wait_s = 0.0

        def head(heap: list[Turn]) -> Turn | None:
            return self._head(heap, now, None if is_idle else estimate, dropped)

        for _ in range(len(self._all)):
            turn = self._all.pick(head)
            if turn is None:
                break
            bucket = self._buckets[turn.shape]
            first = turn.jobs[0]
            most = max_items(first.nbytes // first.items)
            limit, hold_s = self._limit(bucket.items, now - first.queued_at, lanes, most)
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
            del ticket.client.level.clients[ticket.client.key]
            self.moves()
        return cancelled

    def __bool__(self) -> bool:
        """Whether a job waits."""
        return self._all.items > 0

    def fills(self, items: int) -> bool:
        """Whether as many wait as a batch can have, of each shape that waits: whichever is next."""
        return min([bucket.items for bucket in self._buckets.values()], default=0) >= items

    def _fill(self, bucket: Rotation | Leveled, limit: int, head: Callable[[list[Turn]], Turn | None]) -> list[Job]:
        """Jobs of up to `limit` items, from each client in turn; one job at least, even if it is larger."""
        jobs: list[Job] = []
        items = 0
        while items < limit and (turn := bucket.pick(head)) is not None:
            if jobs and items + turn.jobs[0].items > limit:
                break
            jobs.append(self._remove(turn))
            items += jobs[-1].items
        return jobs

    def _rotation(self) -> Rotation | Leveled:
        return Leveled() if self._policy.levels else Rotation()

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
                if ticket.client.level.policy.delays_on_timeout:
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
        if items or nbytes:
            self.moves()
        ticket.items -= items
        ticket.nbytes -= nbytes
        self._count(ticket, -items, -nbytes)
        if not ticket.started:
            ticket.started = True
            ticket.client.level.requests -= 1
            self.requests -= 1

    def _count(self, ticket: Ticket, items: int, nbytes: int) -> None:
        seconds = nbytes * ticket.second_per_byte
        for counted in (self, ticket.client.level, ticket.client):
            counted.items += items
            counted.nbytes += nbytes
            counted.seconds += seconds
