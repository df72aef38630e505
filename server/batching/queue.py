"""The waiting jobs of one shape: requests take turns, and each gives one job at a time."""

from collections import deque

from server.batching.batch import Job


class Turn:
    """The waiting jobs of one request, first in first out."""

    __slots__ = ("jobs", "rows")

    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()
        self.rows = 0

    def clear(self) -> list[Job]:
        """Empties the turn; what was in it."""
        jobs = list(self.jobs)
        self.jobs.clear()
        self.rows = 0
        return jobs


class Bucket:
    """The queue of one shape. Requests that outstayed a queue timeout with DELAY wait behind all others."""

    def __init__(self) -> None:
        self._turns: deque[Turn] = deque()
        self._late: deque[Turn] = deque()

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return sum(turn.rows for turn in self._turns) + sum(turn.rows for turn in self._late)

    def push(self, turn: Turn, job: Job) -> None:
        """Queues a job behind the others of its request."""
        if not turn.jobs:
            self._turns.append(turn)
        turn.jobs.append(job)
        turn.rows += job.rows

    def head(self) -> Job | None:
        """The job whose turn it is, None where nobody waits."""
        queue = self._queue()
        return queue[0].jobs[0] if queue else None

    def pop(self) -> Job:
        """Takes the head; its request goes to the back with what it still has."""
        queue = self._queue()
        turn = queue.popleft()
        job = turn.jobs.popleft()
        turn.rows -= job.rows
        if turn.jobs:
            queue.append(turn)
        return job

    def delay(self) -> None:
        """Sends the request whose turn it is behind all that are in time."""
        self._late.append(self._turns.popleft())

    def in_time(self) -> bool:
        """Whether the head waits in the first queue."""
        self._queue()
        return bool(self._turns)

    def _queue(self) -> deque[Turn]:
        for queue in (self._turns, self._late):
            while queue and not queue[0].jobs:  # its caller left
                queue.popleft()
            if queue:
                return queue
        return self._turns
