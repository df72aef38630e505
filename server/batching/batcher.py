"""Many callers, one model: admission at the door, fair queues by shape, a batch when a lane is free.

A request is admitted once, all rows or none: by count, by bytes, and by whether it could be answered before its
deadline. Its jobs (an image, a tile, or a tensor request of n rows) then queue by shape. Each batch takes one job from
each waiting request in turn, so a request for 2,000 images does not close the door to the others.
"""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from server.batching.admission import Admission, failure_reason
from server.batching.batch import Batch, Job
from server.batching.device import Device
from server.batching.instances import Instance, Instances
from server.batching.queue import Bucket, Turn
from server.engines.base import Engine
from server.errors import CapacityError, DeadlinePassed, InferenceFailed, NotServing, Overloaded
from server.observability.context import Request

# Share of the time left before its deadline that a new request may have to queue. The rest is for the run, for the
# way back, and for what the estimate gets wrong; a shorter queue costs no throughput as long as it is never empty.
DEADLINE_SHARE = 0.6

log = logging.getLogger(__name__)


class Statistics(Protocol):
    """What a batcher reports of one model version; durations in seconds."""

    def pending(self, change: int) -> None: ...

    def executed(self, batch_size: int, input_s: float, infer_s: float, output_s: float) -> None: ...

    def succeeded(
        self, rows: int, queue_s: float, input_s: float, infer_s: float, output_s: float, total_s: float
    ) -> None: ...

    def failed(self, reason: str, total_s: float) -> None: ...

    def dropped(self, reason: str) -> None: ...


@dataclass(frozen=True)
class Policy:
    """How one model queues: Triton's `dynamic_batching` and the server's limits. Zero: no such limit."""

    max_batch_size: int  # 0: the graph has no batch axis
    max_queue_rows: int
    max_queue_bytes: int
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_s: float = 0.0
    max_queue_requests: int = 0
    queue_timeout_s: float = 0.0
    delays_on_timeout: bool = False  # past the queue timeout: behind the others, instead of refused
    allows_timeout_override: bool = False


class Batcher:
    """The queue of one model version, for its engines on one device or several. Loop thread only."""

    def __init__(self, engines: Mapping[Device, Engine], policy: Policy, statistics: Statistics) -> None:
        self.policy = policy
        self.batched = policy.max_batch_size > 0
        self.max_batch_size = max(1, policy.max_batch_size)
        self.statistics = statistics
        self.instances = Instances(engines, self._form, self._is_waiting)
        self._buckets: dict[object, Bucket] = {}
        self._admissions: set[Admission] = set()
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._waiting_requests = 0
        self._closed = False
        self._drained = asyncio.Event()
        self._drained.set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting_rows(self) -> int:
        """Rows admitted and not yet in a batch."""
        return self._waiting_rows

    def admit(self, rows: int, nbytes: int, deadline: float | None, timeout_s: float = 0.0) -> Admission:
        """Leave to run `rows` rows of `nbytes` bytes of input, before `deadline` on the monotonic clock.

        `timeout_s`: the caller's own longest wait in the queue, where the model's queue policy lets it choose.

        Raises:
            NotServing: the model is being unloaded.
            Overloaded: the queue is full, or too long for the deadline.
            DeadlinePassed: the deadline is already over.
        """
        now = time.monotonic()
        with self._refusals_counted():
            self._check_room(rows, nbytes)
        self.check_time(nbytes, deadline)
        queue_timeout_s = self.policy.queue_timeout_s
        if timeout_s and self.policy.allows_timeout_override:
            queue_timeout_s = min(timeout_s, queue_timeout_s or timeout_s)
        admission = Admission(self, rows, nbytes, deadline, now + queue_timeout_s if queue_timeout_s else None)
        self._admissions.add(admission)
        self._drained.clear()
        self._waiting_rows += rows
        self._waiting_bytes += nbytes
        self._waiting_requests += 1
        self.statistics.pending(+1)
        return admission

    def check_time(self, nbytes: int, deadline: float | None) -> None:
        """Refuses what could not be answered before its deadline; `admit` does so too.

        Raises:
            Overloaded: the queue is too long for the deadline.
            DeadlinePassed: the deadline is already over.
        """
        if deadline is None:
            return
        left_s = deadline - time.monotonic()
        wait_s = self.instances.wait_s(self._waiting_bytes + nbytes)
        with self._refusals_counted():
            if left_s <= 0:
                raise DeadlinePassed(f"the deadline passed {-left_s:.3f} s before the request was read")
            if self._waiting_rows and wait_s > left_s * DEADLINE_SHARE:
                waiting = self._waiting_rows
                raise Overloaded(f"{waiting} rows wait, about {wait_s:.3f} s; the deadline is in {left_s:.3f} s")

    def enqueue(self, job: Job) -> None:
        """Queues an admitted job."""
        bucket = self._buckets.get(job.shape)
        if bucket is None:
            bucket = self._buckets[job.shape] = Bucket()
        turn = job.admission.turns.get(job.shape)
        if turn is None:
            turn = job.admission.turns[job.shape] = Turn()
        bucket.push(turn, job)
        self.instances.offer()

    def release(self, rows: int, nbytes: int) -> None:
        """Takes back room in the queue."""
        self._waiting_rows -= rows
        self._waiting_bytes -= nbytes

    def begun(self) -> None:
        """Notes that a request's first job has left the queue, or that it never will."""
        self._waiting_requests -= 1
        self.statistics.pending(-1)

    def left(self, admission: Admission) -> None:
        """Forgets a request that has its answer or its error."""
        self._admissions.discard(admission)
        if not self._admissions:
            self._drained.set()

    async def drain(self) -> None:
        """Admits no more; returns when every admitted request has left."""
        self._closed = True
        await self._drained.wait()

    def failed(self, error: Exception, request: Request | None) -> InferenceFailed:
        """The caller's view of an engine's error: an id; the log has the rest, and whose request it was."""
        error_id = uuid.uuid4().hex[:12]
        fields = {**({} if request is None else dict(request.log_fields())), "error_id": error_id}
        log.error("inference failed", exc_info=error, extra={"fields": fields})
        return InferenceFailed(f"inference failed; the server's log has the cause under error_id {error_id}")

    def _form(self, instance: Instance, slots: int, quiet: bool) -> Batch | None:
        """The next batch, from the bucket whose head has waited longest; None where nothing may leave now.

        `slots`: batches that the devices take now; the rows that wait are shared out over them. `quiet`: a job may
        have the instance's device for itself.
        """
        now = time.monotonic()
        heads: list[tuple[float, Bucket]] = []
        for shape, bucket in list(self._buckets.items()):
            head = self._live_head(bucket, now)
            if head is None:
                del self._buckets[shape]
            else:
                heads.append((head.queued_at, bucket))
        if not heads:
            return None
        queued_at, bucket = min(heads, key=lambda entry: entry[0])
        limit = self._limit(instance, bucket.rows, now - queued_at, slots)
        if limit == 0:
            return None
        jobs = self._collect(bucket, limit, now)
        alone = quiet and len(jobs) == 1 and not self._is_waiting()
        return Batch(self, instance, jobs, alone)

    def _is_waiting(self) -> bool:
        return any(bucket.head() is not None for bucket in self._buckets.values())

    @contextmanager
    def _refusals_counted(self) -> Iterator[None]:
        try:
            yield
        except CapacityError as error:
            self.statistics.failed(failure_reason(error), 0.0)
            self.statistics.dropped("deadline" if isinstance(error, DeadlinePassed) else "overloaded")
            raise

    def _check_room(self, rows: int, nbytes: int) -> None:
        policy = self.policy
        if self._closed:
            raise NotServing("the model is being unloaded or the server is stopping; try another server")
        if self._waiting_rows + rows > policy.max_queue_rows:
            raise Overloaded(
                f"{rows} rows asked, {self._waiting_rows} waiting, limit {policy.max_queue_rows} (max_queue_rows)"
            )
        if self._waiting_bytes + nbytes > policy.max_queue_bytes:
            raise Overloaded(
                f"{nbytes} bytes asked, {self._waiting_bytes} waiting, limit {policy.max_queue_bytes} (max_queue_bytes)"
            )
        waiting = self._waiting_requests
        if policy.max_queue_requests and waiting >= policy.max_queue_requests:
            raise Overloaded(f"{waiting} requests waiting, limit {policy.max_queue_requests} (max_queue_size)")

    def _limit(self, instance: Instance, rows: int, waited_s: float, slots: int) -> int:
        """Rows that may leave now; 0 while a partial batch may still wait for company."""
        policy = self.policy
        fitting = [size for size in policy.preferred_batch_sizes if size <= rows]
        if policy.max_queue_delay_s and not fitting and rows < self.max_batch_size:
            if waited_s < policy.max_queue_delay_s:
                self._wake_after(policy.max_queue_delay_s - waited_s)
                return 0
        elif fitting:
            return max(fitting)
        elif policy.max_queue_delay_s:
            slots = 1  # a full batch leaves whole: the rest of one shared out would wait for company again
        return min(math.ceil(rows / slots), instance.pace.enough_rows(self.max_batch_size))

    def _wake_after(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.instances.offer()

    def _collect(self, bucket: Bucket, limit: int, now: float) -> list[Job]:
        jobs: list[Job] = []
        rows = 0
        while (head := self._live_head(bucket, now)) is not None and (not jobs or rows + head.rows <= limit):
            jobs.append(bucket.pop())
            rows += head.rows
            head.admission.starts(head)
        return jobs

    def _live_head(self, bucket: Bucket, now: float) -> Job | None:
        """The job whose turn it is, once those are dropped whose caller left or whose time is over."""
        while (job := bucket.head()) is not None:
            admission = job.admission
            waited_s = now - job.queued_at
            if job.future.done():
                self._drop(bucket, "cancelled", None)
            elif admission.deadline is not None and now + self.instances.least_s(job.nbytes) > admission.deadline:
                self._drop(bucket, "deadline", f"the deadline is over; it waited {waited_s:.3f} s in the queue")
            elif admission.timeout_at is not None and now > admission.timeout_at and bucket.in_time():
                if self.policy.delays_on_timeout:
                    bucket.delay()
                else:
                    self._drop(bucket, "timeout", f"the queue timeout is over; it waited {waited_s:.3f} s")
            else:
                return job
        return None

    def _drop(self, bucket: Bucket, reason: str, text: str | None) -> None:
        job = bucket.pop()
        job.admission.starts(job)
        self.statistics.dropped(reason)
        if text is not None:
            job.future.set_exception(DeadlinePassed(text))
