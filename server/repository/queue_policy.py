"""How a model's requests queue: config.pbtxt's `dynamic_batching`, inside the server's limits."""

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelDynamicBatching, ModelQueuePolicy

from artifact.repository import CONFIG
from server.batching.policy import LevelPolicy, Policy
from server.errors import NotServing
from server.settings import Settings

MAX_LEVELS = 256
MAX_PREFERRED = 1024


def check_batching(batching: ModelDynamicBatching, max_batch_size: int) -> None:
    """Checks that batches are possible, and that every priority that is named is one of the levels.

    Raises:
        NotServing: one is not, or there are too many.
    """
    if (sizes := len(set(batching.preferred_batch_size))) > MAX_PREFERRED:
        raise NotServing(f"{CONFIG}: dynamic_batching: {sizes} preferred sizes; at most {MAX_PREFERRED}")
    for size in batching.preferred_batch_size:
        if not 1 <= size <= max_batch_size:
            raise NotServing(
                f"{CONFIG}: dynamic_batching: preferred size {size} must be positive and <= max batch size "
                f"{max_batch_size}"
            )
    levels = batching.priority_levels
    if levels > MAX_LEVELS:
        raise NotServing(f"{CONFIG}: dynamic_batching: priority_levels {levels}: must be at most {MAX_LEVELS}")
    if not levels:
        return
    if not 1 <= batching.default_priority_level <= levels:
        found = f"default priority level must be in range [1, {levels}], got {batching.default_priority_level}"
        raise NotServing(f"{CONFIG}: dynamic_batching: {found}")
    for level in sorted(batching.priority_queue_policy):
        if not 1 <= level <= levels:
            found = f"priority queue policy must have priority level in range [1, {levels}], got {level}"
            raise NotServing(f"{CONFIG}: dynamic_batching: {found}")


def policy_of(config: ModelConfig, settings: Settings) -> Policy:
    """How the model queues."""
    batching = config.dynamic_batching
    queue = _level_of(batching.default_queue_policy)
    named = batching.priority_queue_policy
    levels = range(1, batching.priority_levels + 1)
    return Policy(
        max_batch_size=config.max_batch_size,
        max_queue_rows=settings.max_queue_rows,
        max_queue_bytes=settings.max_queue_bytes,
        preferred_batch_sizes=tuple(dict.fromkeys(batching.preferred_batch_size)),
        max_queue_delay_s=batching.max_queue_delay_microseconds / 1e6,
        target_s=settings.queue_target_s,
        levels=tuple(_level_of(named[level]) if level in named else queue for level in levels),
        default_level=batching.default_priority_level,
        **vars(queue),
    )


def _level_of(queue: ModelQueuePolicy) -> LevelPolicy:
    return LevelPolicy(
        max_queue_requests=queue.max_queue_size,
        queue_timeout_s=queue.default_timeout_microseconds / 1e6,
        delays_on_timeout=queue.timeout_action == ModelQueuePolicy.DELAY,
        allows_timeout_override=queue.allow_timeout_override,
    )
