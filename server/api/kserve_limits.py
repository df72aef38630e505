"""What a tensor request may make a model compute and return: known from its shapes, before anything runs."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.dtypes import NUMPY_OF
from artifact.spec import TensorSpec
from server.api.limits import Limits
from server.errors import InvalidRequest
from server.repository.loader import Model

Arrays = Mapping[str, NDArray[Any]]


def check_values(model: Model, arrays: Arrays) -> None:
    """A generator makes a black image of what is not finite, and another class's image of a negative label, without an
    error.

    Raises:
        InvalidRequest: NaN, infinity, no pixels, or a label that is no class, for a model with a manifest.
    """
    if model.spec is None:
        return
    for name, array in arrays.items():
        if not array.size:
            raise InvalidRequest(f"input {name!r} has shape {list(array.shape)}: no values")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InvalidRequest(f"input {name!r}: contains values that are not finite")
    if model.spec.labels and "label" in arrays:
        labels = arrays["label"]
        last = len(model.spec.labels) - 1
        unknown = labels[(labels < 0) | (labels > last)]
        if unknown.size:
            raise InvalidRequest(f"input 'label': {unknown[0]} is no class; must be 0..{last}")


def check_pixels(model: Model, arrays: Arrays, limits: Limits) -> None:
    """An input with two free axes is an image, which the network takes in one piece here.

    Raises:
        ImageTooLarge: more pixels than the limits allow, as sent or as the model returns them.
    """
    scale = 1 if model.spec is None else model.spec.scale
    for tensor in model.engine.inputs:
        sizes = _free_sizes(tensor, arrays[tensor.name])
        if len(sizes) == 2:
            height, width = sizes
            limits.check_whole(f"input {tensor.name!r}", width, height)
            if scale > 1:
                limits.check_whole(f"the output for input {tensor.name!r}", width * scale, height * scale)


def reply_bytes(model: Model, arrays: Arrays, items: int, wanted: Collection[str]) -> int:
    """Of the outputs `wanted`; free axes are taken to be as the input's, times the scale."""
    nbytes = 0
    for tensor in model.engine.outputs:
        if tensor.name in wanted:
            each = math.prod(tensor.shape)
            if -1 in tensor.shape:
                each = math.prod(axis for axis in tensor.shape if axis >= 0) * _free_px(model, arrays)
            nbytes += items * each * (4 if tensor.dtype == "BYTES" else NUMPY_OF[tensor.dtype].itemsize)
    return nbytes


def _free_px(model: Model, arrays: Arrays) -> int:
    """How many values an output has along its free axes, one of its fixed ones aside."""
    scale = 1 if model.spec is None else model.spec.scale
    free = (_free_sizes(tensor, arrays[tensor.name]) for tensor in model.engine.inputs)
    return max((math.prod(sizes) * scale ** len(sizes) for sizes in free), default=1)


def _free_sizes(tensor: TensorSpec, array: NDArray[Any]) -> list[int]:
    """How long the axes are that the graph leaves free, without the batch axis."""
    if -1 not in tensor.shape:
        return []
    sizes = array.shape[array.ndim - len(tensor.shape) :]
    return [size for size, axis in zip(sizes, tensor.shape, strict=True) if axis < 0]
