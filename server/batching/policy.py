"""How a model queues: Triton's `dynamic_batching` and the server's limits."""

from collections.abc import Sequence
from dataclasses import dataclass

from server.errors import InvalidRequest


@dataclass(frozen=True, kw_only=True)
class LevelPolicy:
    """How requests of one priority queue: Triton's `ModelQueuePolicy`. Zero: no such limit."""

    max_queue_requests: int = 0
    queue_timeout_s: float = 0.0
    delays_on_timeout: bool = False  # past the queue timeout: behind all others, instead of rejected
    allows_timeout_override: bool = False


@dataclass(frozen=True)
class Policy(LevelPolicy):
    """How one model queues. Its own fields of `LevelPolicy` are for a model without levels. Zero: no such limit."""

    max_batch_size: int  # 0: the graph has no batch axis
    max_queue_rows: int  # items of the batch axis
    max_queue_bytes: int
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_s: float = 0.0
    target_s: float = 0.0  # how long requests without a deadline may be expected to take
    levels: Sequence[LevelPolicy] = ()  # of priority 1, 2, ...; none: priorities have no effect
    default_level: int = 0  # the priority of requests that state none

    def level(self, priority: int) -> int:
        """Which of `levels` a request of that priority belongs to; 0: it states none.

        Raises:
            InvalidRequest: the model has no such level.
        """
        if not self.levels:
            return 0
        if priority > len(self.levels):
            raise InvalidRequest(
                f"priority {priority}: the model has levels 1 to {len(self.levels)} (priority_levels), 1 is the highest"
            )
        return (priority or self.default_level) - 1
