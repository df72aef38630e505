"""What waits in a queue: levels of priority, clients, their requests (tickets), and the jobs of each."""

import asyncio
import time
from collections import deque
from collections.abc import Hashable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from server.batching.policy import LevelPolicy
from server.engines.base import Arrays
from server.observability.context import RequestContext


class Level:
    """What waits of one priority; 0 is the highest. A model without priorities has one. `seconds`: estimated.

    Attributes:
        requests: those of which no job has left yet.
        clients: those with an admitted request, by key.
    """

    __slots__ = ("clients", "index", "items", "nbytes", "policy", "requests", "seconds")

    def __init__(self, index: int, policy: LevelPolicy) -> None:
        self.index = index
        self.policy = policy
        self.items = 0
        self.nbytes = 0
        self.seconds = 0.0
        self.requests = 0
        self.clients: dict[str, Client] = {}


class Client:
    """Who asks, for fairness: what all requests of one connection or API key have waiting, at one level. `seconds`:
    estimated."""

    __slots__ = ("items", "key", "level", "nbytes", "requests", "seconds")

    def __init__(self, key: str, level: Level) -> None:
        self.key = key
        self.level = level
        self.items = 0
        self.nbytes = 0
        self.seconds = 0.0
        self.requests = 0  # admitted and not yet answered


class Ticket:
    """One request's share of the queue. `deadline`, `timeout_at`: on the monotonic clock, None for none.

    Attributes:
        items, nbytes: what is reserved and has not left the queue.
        unpushed: of the items, those whose jobs have not come yet.
        second_per_byte: the estimate at admission.
        order: among the requests of its client the lowest leaves first.
        request: whose it is, None outside of an RPC.
    """

    __slots__ = (
        "client", "deadline", "items", "nbytes", "order", "request", "second_per_byte", "started", "timeout_at",
        "turns", "unpushed", "unpushed_bytes",
    )  # fmt: skip

    def __init__(
        self,
        client: Client,
        items: int,
        nbytes: int,
        *,
        deadline: float | None = None,
        timeout_at: float | None = None,
        second_per_byte: float = 0.0,
        order: float = 0.0,
        request: RequestContext | None = None,
    ) -> None:
        self.client = client
        self.items = self.unpushed = items
        self.nbytes = self.unpushed_bytes = nbytes
        self.deadline = deadline
        self.timeout_at = timeout_at
        self.second_per_byte = second_per_byte
        self.order = order
        self.request = request
        self.started = False  # whether a first job has left the queue
        self.turns: dict[Hashable, Turn] = {}  # by shape


class Turn:
    """The waiting jobs of one request and one shape, first in first out. Sorts by the request's order.

    `late`: past a queue timeout with DELAY, so behind all others.
    """

    __slots__ = ("_key", "jobs", "late", "number", "order", "shape")

    def __init__(self, order: float, number: int, shape: Hashable, late: bool = False) -> None:
        self.order = order
        self.number = number
        self.shape = shape
        self.late = late
        self._key = (late, order, number)  # once: a heap of many compares each with several
        self.jobs: deque[Job] = deque()

    def __lt__(self, other: "Turn") -> bool:
        return self._key < other._key


class Done(NamedTuple):
    """One job's items of the outputs, and how the batch went that it was in. Durations in seconds."""

    outputs: dict[str, NDArray[Any]]
    batch_size: int
    queue_s: float
    input_s: float
    compute_s: float
    output_s: float


class Job:
    """What runs in one piece: arrays with an equal number of items, or of a model without a batch axis."""

    __slots__ = ("arrays", "batched", "future", "items", "nbytes", "queued_at", "shape", "ticket")

    def __init__(self, ticket: Ticket, arrays: Arrays, batched: bool) -> None:
        self.ticket = ticket
        self.arrays = arrays
        self.batched = batched
        self.items = len(next(iter(arrays.values()))) if batched else 1
        self.nbytes = 0
        shape = []
        for name, array in arrays.items():
            self.nbytes += array.nbytes
            shape.append((name, array.dtype.num, array.shape[1:] if batched else array.shape))
        # Jobs of equal types and trailing shapes can share a batch. The names tell which optional inputs are given.
        self.shape = tuple(shape)
        self.queued_at = time.monotonic()
        self.future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
