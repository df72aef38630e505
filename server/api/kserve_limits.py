"""What a tensor request may make a model compute and return: known from its shapes, before anything runs."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifact.shapes import ANY_SIZE, Sides
from artifact.spec import TensorSpec
from server.api.limits import Limits
from server.errors import InvalidRequest
from server.repository.declared import Axes
from server.repository.model import Model

Shapes = Mapping[str, Axes]
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


def check_pixels(model: Model, shapes: Shapes, limits: Limits) -> None:
    """An input with two free axes is an image, which the network takes in one piece here. `shapes`: the graph's.

    Raises:
        ImageTooLarge: more pixels than the limits allow, as sent or as the model returns them.
        InvalidRequest: sides that the network cannot have.
    """
    scale = 1 if model.spec is None else model.spec.scale
    sides = ANY_SIZE if model.spec is None else Sides(model.spec.multiple_px, model.spec.least_px)
    for tensor in model.engine.inputs:
        if -1 not in tensor.shape or tensor.name not in shapes:
            continue
        sizes = _free_sizes(tensor, shapes[tensor.name])
        if len(sizes) == 2:
            height, width = sizes
            limits.check_whole(f"input {tensor.name!r}", width, height)
            if scale > 1:
                limits.check_whole(f"the output for input {tensor.name!r}", width * scale, height * scale)
            if (sides.fit(height), sides.fit(width)) != (height, width):
                rule = f"multiples of {sides.multiple_px} from {sides.min_px} on"
                raise InvalidRequest(f"input {tensor.name!r}: image of {width}x{height} px, sides must be {rule}")


class Expected(NamedTuple):
    """An output before it is computed. `shape`: in a reply, batch axis included; None: only the run will tell."""

    shape: Axes | None
    nbytes: int


def expected_outputs(model: Model, items: int, shapes: Shapes) -> dict[str, Expected]:
    """The outputs by name; free axes are taken to be as the input's, times the scale. `shapes`: the graph's, of the
    inputs that are known."""
    batch = (items,) if model.max_batch_size else ()
    if model.has_fixed_outputs:
        return {each.name: Expected((*batch, *each.graph), items * each.item_bytes) for each in model.outputs}
    scale = 1 if model.spec is None else model.spec.scale
    inputs = [_free_sizes(tensor, shapes[tensor.name]) for tensor in model.engine.inputs if tensor.name in shapes]
    sizes = [size * scale for size in max(inputs, key=math.prod, default=[])]
    found: dict[str, Expected] = {}
    for tensor in model.outputs:
        free = tensor.graph.count(-1)
        nbytes = items * tensor.item_bytes * (math.prod(sizes) if free else 1)
        shape: Axes | None = None
        if free == len(sizes) or not free:
            left = iter(sizes)
            axes = tensor.to_wire(tuple(next(left) if axis < 0 else axis for axis in tensor.graph))
            shape = (*batch, *axes)
        found[tensor.name] = Expected(shape, nbytes)
    return found


def _free_sizes(tensor: TensorSpec, shape: Axes) -> list[int]:
    """How long the axes are that the graph leaves free, without the batch axis."""
    sizes = shape[len(shape) - len(tensor.shape) :]
    return [size for size, axis in zip(sizes, tensor.shape, strict=True) if axis < 0]
