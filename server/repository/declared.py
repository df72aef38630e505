"""Tensors as requests and replies carry them: config.pbtxt's `dims`, which `reshape` maps to the graph's shapes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelInput, ModelOutput

from artifact.dtypes import NUMPY_OF
from artifact.repository import CONFIG
from artifact.spec import TensorSpec
from server.errors import NotServing

Axes = tuple[int, ...]

# As of numpy's arrays.
MAX_AXES = 64


@dataclass(frozen=True)
class DeclaredTensor:
    """An input or output, without the batch axis; -1: an axis of any size.

    `dims`: of requests and replies. `reshape`: the same values in the same order as the config says that the graph has
    them; equal to `dims` without a reshape. `graph`: what the graph itself says.
    """

    name: str
    dtype: str
    dims: Axes
    reshape: Axes
    graph: Axes

    @cached_property
    def is_fixed(self) -> bool:
        """Whether every axis has one size, the same in requests and replies as in the graph."""
        return self.dims == self.reshape == self.graph and -1 not in self.graph

    @cached_property
    def item_bytes(self) -> int:
        """Of one item as the graph has it, with axes of any size taken as 1 and a string as 4 bytes."""
        values = prod(axis for axis in self.graph if axis >= 0)
        return values * (4 if self.dtype == "BYTES" else NUMPY_OF[self.dtype].itemsize)

    def to_graph(self, axes: Axes) -> Axes | None:
        """The graph's shape of an input that is sent with these axes, None if the model does not accept them.

        One value per item, which Triton's clients send as (N, 1), may also be sent as (N,), as the graph has it.
        """
        if axes == self.graph and (self.is_fixed or not axes):
            return axes
        if not _fit(axes, self.dims):
            return None
        shape = _filled(self.reshape, axes, self.dims)
        return shape if _fit(shape, self.graph) else None

    def to_wire(self, axes: Axes) -> Axes:
        """How a reply has an output of which the graph made these axes."""
        if self.is_fixed or not _fit(axes, self.reshape):
            return axes
        return _filled(self.dims, axes, self.reshape)


def declared(entries: Sequence[Any], tensors: Sequence[TensorSpec]) -> tuple[DeclaredTensor, ...]:
    """The inputs or outputs of a config that was completed from the graph's `tensors`, in their order."""
    named = {entry.name: entry for entry in entries}
    return tuple(
        DeclaredTensor(tensor.name, tensor.dtype, tuple(entry.dims), graph_dims(entry), tensor.shape)
        for tensor in tensors
        if (entry := named.get(tensor.name)) is not None
    )


def graph_dims(entry: Any) -> Axes:
    """The dims of a config's input or output as its `reshape` says that the graph has them."""
    return tuple(entry.reshape.shape if entry.HasField("reshape") else entry.dims)


def check_dims(entry: ModelInput | ModelOutput) -> None:
    """Checks that a tensor of those axes can be sent.

    Raises:
        NotServing: it cannot.
    """
    for field, dims in (("dims", entry.dims), ("reshape", entry.reshape.shape)):
        if wrong := [axis for axis in dims if axis < 1 and axis != -1]:
            what = f"tensor {entry.name!r}: {field} {wrong[0]}"
            raise NotServing(f"{CONFIG}: {what}: must be 1 or more, or -1 for any size")
        if len(dims) > MAX_AXES:
            raise NotServing(f"{CONFIG}: tensor {entry.name!r} has {len(dims)} {field}; at most {MAX_AXES}")


def check_reshape(entry: ModelInput | ModelOutput) -> None:
    """Checks that a reshape keeps the values: as many between two axes of any size as before.

    Raises:
        NotServing: it does not.
    """
    if entry.HasField("reshape") and _fixed_parts(entry.dims) != _fixed_parts(entry.reshape.shape):
        shapes = f"dims {list(entry.dims)} and reshape {list(entry.reshape.shape)}"
        raise NotServing(f"{CONFIG}: tensor {entry.name!r} has different size for {shapes}")


def _fit(axes: Sequence[int], limits: Axes) -> bool:
    return len(axes) == len(limits) and all(
        axis >= 0 and limit in (-1, axis) for axis, limit in zip(axes, limits, strict=True)
    )


def _filled(wanted: Axes, axes: Axes, limits: Axes) -> Axes:
    """`wanted` with its axes of any size taken, in their order, from those of `axes`, which fit `limits`."""
    free: Iterator[int] = (axis for axis, limit in zip(axes, limits, strict=True) if limit < 0)
    return tuple(next(free) if axis < 0 else axis for axis in wanted)


def _fixed_parts(dims: Sequence[int]) -> list[int]:
    """How many values there are before, between and after the axes of any size."""
    parts: list[list[int]] = [[]]
    for axis in dims:
        if axis < 0:
            parts.append([])
        else:
            parts[-1].append(axis)
    return [prod(part) for part in parts]
