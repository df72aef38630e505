"""Triton's classification extension: the largest values of each item of an output, as texts `value:index[:label]`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.errors import ImageTooLarge, InvalidRequest
from server.repository.declared import DeclaredTensor

PARAMETER = "classification"
# Of one item, as in Triton.
MAX_VALUES = 1_000_000
# About what a text takes in memory, without its label.
_TEXT_BYTES = 128
_KINDS = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64")

Outputs = tuple[Mapping[str, DeclaredTensor], Mapping[str, NDArray[Any]]]

NO_COUNTS: Mapping[str, int] = {}


def read_counts(wanted: Sequence[Any], expected: Mapping[str, DeclaredTensor]) -> dict[str, int]:
    """How many classes are requested of which outputs, before anything runs. `wanted`: those of the request, checked.

    Raises:
        InvalidRequest: fewer than one, of a type that has no order, or together with shared memory.
    """
    counts: dict[str, int] = {}
    for tensor in wanted:
        if PARAMETER not in tensor.parameters:
            continue
        count = tensor.parameters[PARAMETER].int64_param
        dtype = expected[tensor.name].dtype
        if count < 1:
            raise InvalidRequest(f"output {tensor.name!r}: {PARAMETER}: {count} classes requested, at least 1")
        if dtype not in _KINDS:
            raise InvalidRequest(f"class result not available for output due to unsupported type {dtype!r}")
        if "shared_memory_region" in tensor.parameters:
            raise InvalidRequest("output can't set both 'shared_memory_region' and 'classification'")
        counts[tensor.name] = count
    return counts


def classified(
    expected: Mapping[str, DeclaredTensor],
    outputs: Mapping[str, NDArray[Any]],
    counts: Mapping[str, int],
    labels: Mapping[str, Sequence[str]],
    max_batch_size: int,
    limit_bytes: int,
) -> Outputs:
    """The outputs and what they are, with texts in place of those that `counts` names: (items, classes) BYTES, without
    the first axis if the model has no batch axis.

    Args:
        labels: by output and index.
        limit_bytes: of the texts (max_message_bytes).

    Raises:
        InvalidRequest: an item has more than MAX_VALUES values.
        ImageTooLarge: the texts would take more than the limit.
    """
    declared, arrays = dict(expected), dict(outputs)
    for name, count in counts.items():
        values = arrays[name]
        items = values.reshape(len(values) if max_batch_size else 1, -1)
        if items.shape[1] > MAX_VALUES:
            raise InvalidRequest(f"{PARAMETER} output tensor too large: {items.shape[1]} values, at most {MAX_VALUES}")
        if (needed := len(items) * min(count, items.shape[1]) * _TEXT_BYTES) > limit_bytes:
            raise ImageTooLarge(
                f"output {name!r}: {count} classes of {len(items)} items take {needed} bytes, at most {limit_bytes} "
                "(max_message_bytes); request fewer classes"
            )
        texts = [_largest(item, count, labels.get(name, ())) for item in items]
        array = np.array(texts, object)
        arrays[name] = array if max_batch_size else array[0]
        declared[name] = DeclaredTensor(name, "BYTES", (-1,), (-1,), (-1,))
    return declared, arrays


def _largest(values: NDArray[Any], count: int, labels: Sequence[str]) -> list[str]:
    """Of equal values the first comes first; what is no number comes last."""
    ordered = np.nan_to_num(values, nan=-np.inf, posinf=np.inf, neginf=-np.inf) if values.dtype.kind == "f" else values
    order = len(values) - 1 - np.argsort(ordered[::-1], kind="stable")[::-1]
    texts = []
    for index in order[:count].tolist():
        number = f"{values[index]:f}" if values.dtype.kind == "f" else str(values[index])
        label = labels[index] if index < len(labels) else ""
        texts.append(f"{number}:{index}:{label}" if label else f"{number}:{index}")
    return texts
