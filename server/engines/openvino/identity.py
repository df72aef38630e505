"""How a batch may be run so that each item gets the bytes that it gets alone.

OpenVINO chooses its kernels by batch, image size and number of threads, and they add up in different orders:

- its transposed convolution, by the items of a thread (hence `rewrite_transposed`);
- MVN, which is instance normalisation: each thread sums a part of the image;
- a convolution over more than about 64 channels, whose blocks of channels depend on batch and threads;
- a matrix product of one item in float32, which has a kernel of its own, and of 16 items in bf16.

In float32 the differences are of 1e-5 to 1e-3 levels. Rounded to uint8 they show in one image of some hundreds, which
no comparison of a few images finds; in bf16 they grow to 16 levels. So the image is what one item gives by itself on a
lane. More items, or the whole device, are used for a run only where they gave exactly the same values before rounding.
Measured: docs/adr/0015-openvino-bytes.md.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from artifact.dtypes import NUMPY_OF
from artifact.spec import TensorSpec

# Items of a run: a batch is cut into these. More at once gain nothing on a CPU (faces at 8 and 16: 2,841 and 2,798 /s).
SIZES = (1, 2, 4, 8)
# The batcher puts no two items that take longer into one batch: it forms batches of up to 40 ms.
SLOW_S = 0.02
# For free axes, such as height and width: all kernels cannot be seen, so these stand for the others.
FREE_SIDES = ((32, 32), (32, 64), (64, 32))
# What all comparisons of a graph may take together; what is not compared by then is not used. On idle cores the zoo's
# take 0.1 to 1.5 s; a busy machine should not make what it serves slower until the next start.
TIME_S = 3.0
# Operators between a network's values and its uint8 output.
ROUNDING = ("Clamp", "Convert", "Maximum", "Minimum", "Round", "Transpose")

Arrays = Mapping[str, NDArray[Any]]
Outputs = Sequence[NDArray[Any]]
Run = Callable[[Arrays], Outputs]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ways:
    """Numbers of items that one run may have, largest first. `lane` has 1; `whole` may be empty."""

    lane: tuple[int, ...] = (1,)
    whole: tuple[int, ...] = ()

    def pieces(self, items: int, whole_device: bool) -> Iterator[tuple[int, int, bool]]:
        """(first item, one past the last, whether over the whole device) of the runs for a batch."""
        if not items:
            yield 0, 0, False
        first = 0
        while first < items:
            fitting = [size for size in self.whole if whole_device and size <= items - first]
            size = fitting[0] if fitting else next(size for size in self.lane if size <= items - first)
            yield first, first + size, bool(fitting)
            first += size


def find_ways(inputs: Sequence[TensorSpec], batched: bool, lane: Run, whole: Run | None) -> Ways:
    """The ways that give each item, to the bit, what it gives alone on a lane.

    Args:
        inputs: of the graph, without the batch axis if `batched`.
        lane: runs the graph from `unrounded` as a lane does.
        whole: runs it over the whole device; None if that is the same.
    """
    until = time.monotonic() + TIME_S
    found: dict[bool, list[int]] = {False: [1], True: []}
    is_free = any(-1 in tensor.shape for tensor in inputs)
    try:
        if is_free or not batched:
            if whole is not None and _same_at_all(inputs, batched, lane, whole, until):
                found[True].append(1)
        else:
            for size, is_whole in _same_batches(inputs, lane, whole, until):
                found[is_whole].append(size)
    except Exception as error:  # of OpenVINO's own kinds; what the graph cannot run here is not used
        log.debug("batches not compared", exc_info=error)
    if whole is None:
        found[True] = found[False]
    return Ways(*(tuple(sorted(found[is_whole], reverse=True)) for is_whole in (False, True)))


def unrounded(model: openvino.Model) -> openvino.Model:
    """The graph, up to where its outputs are scaled to levels and rounded."""
    outputs = []
    for result in model.get_results():
        value = kept = result.input_value(0)
        while value.get_node().get_type_name() in ROUNDING:
            inputs = value.get_node().input_values()
            varying = [each for each in inputs if each.get_node().get_type_name() != "Constant"]
            if len(varying) != 1:
                break
            value = varying[0]
            if value.get_element_type().is_real():
                kept = value
        outputs.append(kept)
    return openvino.Model(outputs, model.get_parameters(), "unrounded")


def _same_batches(
    inputs: Sequence[TensorSpec], lane: Run, whole: Run | None, until: float
) -> Iterator[tuple[int, bool]]:
    """(items, whether over the whole device) of the runs that give what each item gives alone on a lane."""
    arrays = _random(inputs, SIZES[-1], (0, 0))
    lane(_items(arrays, 0, 1))  # makes the kernels
    alone, times_s = list[Outputs](), list[float]()
    sizes: Sequence[int] = SIZES
    for item in range(SIZES[-1]):
        started = time.monotonic()
        alone.append(lane(_items(arrays, item, item + 1)))
        times_s.append(time.monotonic() - started)
        if item == 1 and min(times_s) > SLOW_S:
            sizes = SIZES[:2]
            break
    for size in sizes:
        for run, is_whole in ((whole, True), (lane, False)):
            if run is None or (size == 1 and not is_whole):
                continue
            if time.monotonic() > until:
                return
            if all(_same_items(run, arrays, first, alone[first : first + size]) for first in range(0, sizes[-1], size)):
                yield size, is_whole


def _same_items(run: Run, arrays: Arrays, first: int, alone: Sequence[Outputs]) -> bool:
    outputs = run(_items(arrays, first, first + len(alone)))
    return all(_equal([output[i : i + 1] for output in outputs], item) for i, item in enumerate(alone))


def _same_at_all(inputs: Sequence[TensorSpec], batched: bool, lane: Run, whole: Run, until: float) -> bool:
    """Whether the whole device gives what a lane gives, in all of FREE_SIDES that there is time for."""
    sides = FREE_SIDES if any(-1 in tensor.shape for tensor in inputs) else FREE_SIDES[:1]
    for side in sides:
        arrays = _random(inputs, 1 if batched else 0, side)
        if not _equal(lane(arrays), whole(arrays)):
            return False
        if time.monotonic() > until:
            break
    return True


def _equal(one: Outputs, other: Outputs) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


def _items(arrays: Arrays, first: int, last: int) -> Arrays:
    return {name: array[first:last] for name, array in arrays.items()}


def _random(inputs: Sequence[TensorSpec], items: int, side: tuple[int, int]) -> Arrays:
    """Latents and images at random, labels of 0, and 0 and 1 in all combinations for what takes one number an item,
    such as the one that says which of two other inputs counts.

    Args:
        items: 0 without a batch axis.
        side: (H, W) of free axes.
    """
    random = np.random.RandomState(0)
    arrays, switches = {}, 0
    for tensor in inputs:
        free = iter(side * len(tensor.shape))
        shape = [*([items] if items else []), *(next(free) if axis == -1 else axis for axis in tensor.shape)]
        dtype = NUMPY_OF[tensor.dtype]
        values: NDArray[Any] = np.zeros(shape)
        if tensor.dtype == "UINT8":
            values = random.randint(0, 256, shape)
        elif dtype.kind == "f" and tensor.shape:
            values = random.standard_normal(shape)
        elif dtype.kind == "f" and items:
            values = np.arange(items) >> switches & 1
            switches += 1
        arrays[tensor.name] = values.astype(dtype)
    return arrays
