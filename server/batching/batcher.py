"""Many requests, one model: admission on arrival, a fair queue, a batch when a lane is free.

A request is admitted once, all its items or none: by count, by bytes, and by whether it could be answered before its
deadline. Its jobs (an image, a tile, or a tensor request of n items) then wait in the `FairQueue`. When a device has a
free lane it asks the model's `_Slot` there for work: that is the moment at which a batch is formed.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from server.batching.batch import FormedBatch, Running
from server.batching.cost import CostModel, second_per_byte
from server.batching.device import Device
from server.batching.idle import Idle
from server.batching.job import Client, Done, Job, Ticket
from server.batching.policy import Policy
from server.batching.queue import FairQueue
from server.batching.standing import TooLate
from server.engines.base import Arrays, Engine
from server.errors import CapacityError, DeadlinePassed, NotServing
from server.observability.context import current
from server.observability.model_statistics import ModelStatistics, failure_reason

# Share of the time left before its deadline that a new request may have to queue. The rest is for the run, for the
# way back, and for what the estimate gets wrong; a shorter queue costs no throughput as long as it is never empty.
DEADLINE_SHARE = 0.6
# A request without a deadline is expected to take up to the policy's target, or so many times its own computing time.
TARGET_TIMES = 5.0
# A request of one client goes before an earlier one of that client that takes longer to compute, if it came at most so
# many times the difference later.
PATIENCE = 4.0
# What an item takes before anything was measured.
UNKNOWN_ITEM_S = 0.01


class Batcher:
    """One model version on one device or several: what its requests enter and what forms its batches.

    Loop thread only. `engines`: on each device. `costs`: what the model's work costs there.
    """

    def __init__(self, engines: Mapping[Device, Engine], policy: Policy, statistics: ModelStatistics) -> None:
        self.engines = engines
        self.policy = policy
        self.batched = policy.max_batch_size > 0
        self.max_batch_size = max(1, policy.max_batch_size)
        self.statistics = statistics
        self._queue = FairQueue(policy)
        self.running = Running(self._queue.moves)
        self._slots = tuple(_Slot(self, device, engine) for device, engine in engines.items())
        self.costs = {slot.device: slot.cost for slot in self._slots}
        self._admitted = 0
        self._closed = False
        self._drained = asyncio.Event()
        self._drained.set()
        self._timer: asyncio.TimerHandle | None = None
        self._idle = Idle(engines)

    @property
    def waiting_items(self) -> int:
        """Items admitted and not yet in a batch."""
        return self._queue.items

    @property
    def admitted(self) -> int:
        """Requests admitted and not yet answered."""
        return self._admitted

    def admit(
        self,
        items: int,
        nbytes: int,
        deadline: float | None,
        timeout_s: float = 0.0,
        window: int | None = None,
        priority: int = 0,
        beside: Sequence["Admission"] = (),
    ) -> "Admission":
        """Leave to run `items` items of `nbytes` bytes of input in all, before `deadline` on the monotonic clock.

        Args:
            timeout_s: the caller's own longest wait in the queue, if the model's queue policy lets it choose.
            window: items that have a place in the queue at once, all if None; the others are submitted when their
                caller has taken those.
            priority: 1 is the highest; 0: the model's default.
            beside: what the same request has here already, for earlier steps: it does not stand in its own way.

        Raises:
            InvalidRequest: the model has no such priority.
            NotServing: the model is being unloaded.
            Overloaded: the queue is full, or too long for the deadline, or for the policy's target if there is none.
            DeadlinePassed: the deadline is already over.
        """
        request = current.get()
        client = self._queue.client("" if request is None else request.client, priority)
        now = time.monotonic()
        queue_timeout_s = client.level.policy.queue_timeout_s
        if timeout_s and client.level.policy.allows_timeout_override:
            queue_timeout_s = min(timeout_s, queue_timeout_s or timeout_s)
        item_bytes = nbytes // max(1, items)
        seconds, fixed_s = self._seconds(nbytes, item_bytes)
        reserved = items if window is None else min(items, window)
        ticket = Ticket(
            client,
            reserved,
            nbytes if reserved == items else reserved * item_bytes,
            deadline=deadline,
            timeout_at=now + queue_timeout_s if queue_timeout_s else None,
            second_per_byte=seconds / max(1, nbytes),
            order=now + PATIENCE * (seconds or items * UNKNOWN_ITEM_S),
            request=request,
        )
        try:
            if self._closed:
                raise NotServing("the model is being unloaded or the server is stopping; try another server")
            if not beside:  # it waits for its own steps in any case
                self._check_time(client, seconds, fixed_s, deadline, now)
            self._queue.reserve(ticket, [each._ticket for each in beside])
        except CapacityError as error:
            self._count_rejection(error)
            raise
        self._admitted += 1
        self._drained.clear()
        self._idle.ends()
        self.statistics.pending_count = self._queue.requests
        return Admission(self, ticket)

    def check_time(self, nbytes: int, deadline: float | None, priority: int = 0) -> None:
        """Rejects what could not be answered in time, before its `nbytes` bytes are decoded; `admit` decides.

        Raises:
            InvalidRequest: the model has no such priority.
            Overloaded: the queue is too long.
            DeadlinePassed: the deadline is already over.
        """
        request = current.get()
        client = self._queue.client("" if request is None else request.client, priority)
        try:
            self._check_time(client, *self._seconds(nbytes, nbytes), deadline, time.monotonic(), stands=True)
        except CapacityError as error:
            self._count_rejection(error)
            raise

    def _check_time(
        self, client: Client, seconds: float, fixed_s: float, deadline: float | None, now: float, stands: bool = False
    ) -> None:
        """Rejects a request of so many seconds, and `fixed_s` for its batch, if it would be late; `stands`: so would
        all of its size. Only while others wait: an idle device takes the next job whatever the estimate says."""
        if deadline is not None and deadline <= now:
            raise DeadlinePassed(f"the deadline passed {now - deadline:.3f} s before the request was read")
        queue = self._queue
        if not queue.items:
            return
        if deadline is not None:
            left_s = deadline - now
        elif self.policy.target_s:
            left_s = max(self.policy.target_s, TARGET_TIMES * (seconds + fixed_s))
        else:
            return
        running_s = sum([cost.running_s for cost in self.costs.values()])
        wait_s = running_s / len(self.costs) + queue.wait_s(client, seconds) + fixed_s
        if wait_s > left_s * DEADLINE_SHARE:
            times = wait_s, left_s, wait_s / DEADLINE_SHARE, deadline is not None
            raise TooLate.of(queue.items, *times, queue.standstill if stands else None, self.statistics)

    def _seconds(self, nbytes: int, item_bytes: int) -> tuple[float, float]:
        """What a request costs in long batches, and what a batch costs by itself on the device where that is least."""
        if len(self._slots) == 1:  # nothing to weigh
            slot = self._slots[0]
            rate, fixed_s = slot.cost.price(item_bytes, self.max_batch_size)
            return nbytes * rate * max(1, slot.device.sources), fixed_s
        costs = [(slot.cost, slot.device.sources) for slot in self._slots]
        rate = second_per_byte(costs, item_bytes, self.max_batch_size)
        return nbytes * rate, min(cost.fixed_s(item_bytes) for cost, _ in costs)

    async def drain(self) -> None:
        """Admits no more; returns when every admitted request has been answered."""
        self._closed = True
        self._queue.moves()
        await self._drained.wait()
        self.running.close()
        await self._idle.close()

    # What follows is for this module alone.

    def submit(self, ticket: Ticket, arrays: Arrays) -> Job:
        """Queues a job of an admitted request.

        Raises:
            InvalidRequest: an engine does not accept these shapes: it may be the one that gets the job.
        """
        shapes = {name: array.shape for name, array in arrays.items()}
        for slot in self._slots:
            slot.engine.check(shapes)
        job = Job(ticket, arrays, self.batched)
        self._queue.push(job)
        self.offer(ticket.request is not None and ticket.request.came_alone and not ticket.unpushed)
        return job

    def offer(self, is_alone: bool = False) -> None:
        """Tells every device that there is work; the first that has a free lane takes it. `is_alone`: whether nothing
        else has come, or is about to."""
        for slot in self._slots:
            slot.device.offer(slot, is_alone)

    def take(self, slot: "_Slot", lanes: int, may_use_whole_device: bool) -> FormedBatch | None:
        """Forms the next batch for a slot; None if nothing may leave now. See `Source.take`."""
        taken = self._queue.take(
            time.monotonic(),
            lanes + sum(other.device.free for other in self._slots if other is not slot),
            lambda item_bytes: slot.cost.max_items(self.max_batch_size, item_bytes),
            slot.cost.seconds,
            slot.device.is_idle or (self._admitted == 1 and not slot.device.sources),
        )
        for dropped in taken.dropped:
            self.statistics.dropped(dropped.reason)
            if (error := dropped.error()) is not None:
                dropped.job.future.set_exception(error)
        self.statistics.pending_count = self._queue.requests
        if not taken.jobs:
            if taken.wait_s:
                self._wake_after(taken.wait_s)
            return None
        whole = may_use_whole_device and len(taken.jobs) == 1 and not self._queue
        return FormedBatch(taken.jobs, whole, slot.engine, slot.device, slot.cost, self.statistics, self.running)

    def has_work(self) -> bool:
        """Whether a job waits."""
        return bool(self._queue)

    def close(self, ticket: Ticket) -> None:
        """Ends a request: what it still has waiting is cancelled."""
        for job in self._queue.cancel(ticket):
            job.future.cancel()
            self.statistics.dropped("cancelled")
        self.statistics.pending_count = self._queue.requests
        self._admitted -= 1
        if not self._admitted:
            self._drained.set()
            self._idle.begins()

    def _count_rejection(self, error: CapacityError) -> None:
        self.statistics.failed(failure_reason(error), 0.0)
        self.statistics.dropped("deadline" if isinstance(error, DeadlinePassed) else "overloaded")

    def _wake_after(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.offer()


class Admission:
    """An admitted request: holds room in the queue until its context is left, which drops what still waits.

    Loop thread only.
    """

    def __init__(self, batcher: Batcher, ticket: Ticket) -> None:
        self._batcher = batcher
        self._ticket = ticket
        self._trace = None if ticket.request is None else ticket.request.trace
        if self._trace is not None:
            self._trace.admitted(ticket.items)
        self._admitted_at = time.monotonic()
        self._began_at = 0.0  # with the first job; 0: there was none
        self.computed = 0  # items so far
        self._queue_s = self._input_s = self._compute_s = self._output_s = 0.0  # of the slowest job each

    async def run(self, arrays: Arrays) -> Done:
        """The outputs of one job: arrays of n items each, n at most the model's `max_batch_size`.

        Raises:
            InvalidRequest: the engine does not accept these shapes.
            DeadlinePassed: the deadline came before the job's turn.
            InferenceFailed: the engine could not run these items.
        """
        self._began_at = self._began_at or time.monotonic()
        job = self._batcher.submit(self._ticket, arrays)
        try:
            done = await job.future
            self.computed += job.items
        except CapacityError:
            if self._trace is not None:
                self._trace.phase("queue", job.queued_at, time.monotonic())
            raise
        finally:
            del job  # an error has this frame in its traceback, and the future has the error: a circle
        self._queue_s = max(self._queue_s, done.queue_s)
        self._input_s = max(self._input_s, done.input_s)
        self._compute_s = max(self._compute_s, done.compute_s)
        self._output_s = max(self._output_s, done.output_s)
        return done

    @property
    def has_begun(self) -> bool:
        """Whether a job was given to the model."""
        return self._began_at > 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batcher.close(self._ticket)
        statistics = self._batcher.statistics
        if error is None and not self.has_begun:
            return  # withdrawn: another model of its pipeline failed
        total_s = time.monotonic() - (self._began_at or self._admitted_at)
        if error is None:
            statistics.succeeded(self.computed, self._queue_s, self._input_s, self._compute_s, self._output_s, total_s)
        else:
            self._batcher.running.caller_left()
            statistics.failed(failure_reason(error), total_s)


class _Slot:
    """The model on one device: the `Source` that the device asks for work, with what the work costs there."""

    def __init__(self, batcher: Batcher, device: Device, engine: Engine) -> None:
        self.device = device
        self.engine = engine
        self.cost = CostModel(device.lanes, device.is_cpu)
        self.has_work = batcher.has_work
        self._batcher = batcher

    @property
    def is_short(self) -> bool:
        """Whether an item takes so little time that handing it between threads counts."""
        return self.cost.is_short

    @property
    def fills_batch(self) -> bool:
        """See `Source`; while a lane is free elsewhere, what waits is left for that one."""
        batcher, items = self._batcher, self._batcher.max_batch_size
        is_full = batcher._queue.fills(items) and self.cost.is_brief(items)
        return is_full and not sum([slot.device.free for slot in batcher._slots])

    def take(self, lanes: int, may_use_whole_device: bool) -> FormedBatch | None:
        """The next batch; see `Source`. Items are left for the lanes that are free on other devices."""
        return self._batcher.take(self, lanes, may_use_whole_device)
