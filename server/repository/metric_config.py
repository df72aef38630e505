"""What config.pbtxt says of a model's metrics: labels of its own, and the buckets of Triton's latency histogram."""

import math
import re
from collections.abc import Iterator
from itertools import pairwise

from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import CONFIG
from server.errors import NotServing
from server.observability.triton_series import FIRST_RESPONSE

MAX_TAGS = 32
MAX_TAG = 256
MAX_BUCKETS = 100
# Triton's, in milliseconds.
_BUCKETS_MS = (100.0, 500.0, 2000.0, 5000.0)


def read_tags(config: ModelConfig) -> dict[str, str]:
    """The labels of `metric_tags`. As in Triton each name begins with an underscore.

    Raises:
        NotServing: a name that cannot be that of a label, or too much.
    """
    tags = dict(sorted(config.metric_tags.items()))
    if len(tags) > MAX_TAGS:
        raise NotServing(f"{CONFIG}: {len(tags)} metric_tags; at most {MAX_TAGS}")
    for key, value in tags.items():
        if not re.fullmatch("[a-zA-Z0-9][a-zA-Z0-9_]*", key) or max(len(key), len(value)) > MAX_TAG:
            raise NotServing(
                f"{CONFIG}: metric_tags: {key[:MAX_TAG]!r}: names are letters, digits and underscores, and begin with "
                f"no underscore; a name and its value have at most {MAX_TAG} characters each"
            )
    return {f"_{key}": value for key, value in tags.items()}


def read_buckets(config: ModelConfig) -> tuple[float, ...] | None:
    """The bounds of the buckets of FIRST_RESPONSE in milliseconds; None: the model has no such histogram.

    Raises:
        NotServing: they do not ascend, or there are too many.
    """
    for control in config.model_metrics.metric_control:
        if control.metric_identifier.family == FIRST_RESPONSE:
            buckets = tuple(control.histogram_options.buckets) or _BUCKETS_MS
            ascends = all(low < high for low, high in pairwise(buckets))
            if not ascends or not all(map(math.isfinite, buckets)) or len(buckets) > MAX_BUCKETS:
                raise NotServing(f"{CONFIG}: model_metrics: buckets must be at most {MAX_BUCKETS} ascending numbers")
            return buckets
    return None


def without_histogram(config: ModelConfig) -> Iterator[str]:
    """The other families that `model_metrics` names: they have no effect."""
    for control in config.model_metrics.metric_control:
        if (family := control.metric_identifier.family) != FIRST_RESPONSE:
            yield f"model_metrics: {family[:MAX_TAG]!r}: only {FIRST_RESPONSE} has buckets of a model's own"
