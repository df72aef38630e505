"""The runs of a model before it accepts requests: batches of several sizes, at image sizes that requests will have."""

import asyncio
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from artifact.dtypes import BF16, NUMPY_OF
from artifact.repository import CONFIG
from artifact.shapes import Shapes, Sides, has_free_sizes, sized
from artifact.spec import Spec, TensorSpec
from server.batching.batch import require_items
from server.batching.device import Device
from server.batching.policy import Policy
from server.engines.base import Arrays, Engine, Stoppable
from server.engines.onnx.options import batch_sizes
from server.errors import NotServing

Values: TypeAlias = NDArray[np.float64]

# What a free axis is warmed at if nothing is compiled for a shape.
WARM_PX = 32
MAX_ERROR = 300

log = logging.getLogger(__name__)


def sizes_to_warm(max_batch_size: int, item_bytes: int, policy: Policy, on_gpu: bool) -> list[int]:
    """Batch sizes to run: powers of two and the largest; on a GPU, where each size may be compiled, then the others.

    None that requests cannot form, since their inputs do not fit the queue. 0: the graph has no batch axis.
    """
    if not max_batch_size:
        return [0]
    largest = max(1, min(max_batch_size, policy.max_queue_rows, policy.max_queue_bytes // max(1, item_bytes)))
    first = batch_sizes(largest)
    return [*first, *(size for size in range(1, largest + 1) if on_gpu and size not in first)]


async def warm(
    device: Device,
    engine: Engine,
    shapes: Shapes,
    sizes: Sequence[int],
    guessed: bool,
    until: float,
    limit_s: float = 0.0,
) -> str:
    """Runs zeros at every batch size, and the first one also over the whole device.

    Args:
        shapes: of one item of each input; see `shapes_to_warm`.
        sizes: see `sizes_to_warm`.
        guessed: whether the shapes are, so that a first run which fails says little.
        until: on the monotonic clock; after it only what was not run at all is run.
        limit_s: how long a run may take, if the engine can be stopped; 0: for ever.

    Returns:
        Why something was not run, "" if all was.

    Raises:
        NotServing: the engine cannot run what requests will have it run, or its outputs do not follow the batch.
    """
    largest = -1  # that ran
    for size, whole_device in [(size, False) for size in sizes] + [(sizes[0], True)]:
        if largest >= 0 and time.monotonic() > until:
            return f"no batch above {largest} was run before requests: the time for it (warmup_s) was over"
        arrays = {tensor.name: _zeros(tensor, shapes[tensor.name], size) for tensor in engine.inputs}
        try:
            engine.check({name: array.shape for name, array in arrays.items()})
            outputs = await run_once(device, engine, arrays, whole_device, limit_s)
            if size:
                require_items(outputs, size)
        except NotServing:
            raise
        except Exception as error:  # whatever the engine raises, this version is not served
            text = one_line(error)
            if guessed and largest < 0:
                return f"not run before requests, since its inputs had to be guessed: {text}"
            raise NotServing(f"warm-up at batch {size}: {text}{_hint(size, largest, text)}") from error
        largest = max(largest, size)
    return ""


async def run_once(
    device: Device, engine: Engine, arrays: Arrays, whole_device: bool, limit_s: float
) -> Mapping[str, NDArray[Any]]:
    """The outputs of one run.

    Raises:
        NotServing: it did not end in time, and was stopped.
    """
    if not limit_s or not isinstance(engine, Stoppable):
        return await device.call(partial(engine.run, arrays, whole_device))
    try:
        async with asyncio.timeout(limit_s):
            return await device.call(partial(engine.run, arrays, whole_device))
    except TimeoutError:
        engine.stop()
        raise NotServing(f"warm-up: a run had not ended after {limit_s:g} s (hang_timeout_s)") from None


async def require_own_items(device: Device, engine: Engine, shapes: Shapes) -> None:
    """Checks that the items of a batch are computed each from its own inputs, and come in their order.

    Two items are run alone and together. Graphs differ a little from batch to batch, and some draw noise; what is
    rejected differs in most of its values, by more than a tenth of their range, and is the same when it is run again.

    Raises:
        NotServing: an output mixes items.
    """
    rng = np.random.RandomState(0)
    one, other = ({each.name: _values(each, shapes[each.name], rng) for each in engine.inputs} for _ in range(2))
    both = {name: np.concatenate([one[name], other[name]]) for name in one}
    try:
        runs = [await device.call(partial(engine.run, arrays, False)) for arrays in (one, other, one, both)]
    except Exception as error:  # values that the engine does not accept: nothing is known
        log.debug("items not compared", exc_info=error)
        return
    for tensor in engine.outputs:
        if tensor.dtype not in ("BYTES", BF16) and _mixes(*(run[tensor.name].astype(np.float64) for run in runs)):
            raise NotServing(
                f"output {tensor.name!r} mixes the items of a batch: two items together give other values than each "
                "alone. Export the graph so that its first axis is the batch, or set max_batch_size: 1 in config.pbtxt"
            )


def _mixes(one: Values, other: Values, again: Values, both: Values) -> bool:
    """Whether `both` is far from `one` and `other` joined, though `one` was the same `again`."""
    if not one.size or not one.shape == other.shape == again.shape == both[:1].shape:  # shapes that follow the values
        return False
    far = 0.1 * np.ptp(np.concatenate([one, other]))
    if not far:
        return False
    is_far = [np.median(np.abs(a - b)) > far for a, b in ((one, again), (one, both[:1]), (other, both[1:]))]
    return not is_far[0] and (is_far[1] or is_far[2])


def _hint(size: int, largest: int, text: str) -> str:
    """What to change if the graph's batch axis may be the reason."""
    if size and largest > 0:
        serves = f"max_batch_size: {largest} in {CONFIG} serves those"
        return f"; it ran batches of {largest}: {serves}, or export the graph with a free batch axis"
    if size and ("dimensions" in text or "for a batch of" in text):
        return f"; a graph whose first axis is no batch of any size needs max_batch_size: 0 in {CONFIG} or a new export"
    return ""


def one_line(error: Exception) -> str:
    """What an engine says, shortened."""
    return " ".join(str(error).split())[:MAX_ERROR] or type(error).__name__


def shapes_to_warm(inputs: tuple[TensorSpec, ...], spec: Spec | None, on_gpu: bool, is_plan: bool) -> Iterator[Shapes]:
    """Shapes of one item of each input, to be run at several batch sizes.

    Of a TensorRT engine: what each of its profiles is tuned for. Of a graph: whole tiles on a GPU, else small images.
    """
    if is_plan and spec is not None and spec.plan is not None:
        axes = {tensor.name: len(tensor.shape) for tensor in inputs}
        for profile in spec.plan.profiles:
            yield {name: shapes.opt[len(shapes.opt) - axes[name] :] for name, shapes in profile.items()}
        return
    sides = Sides.of(spec)
    side_px = sides.max_px if on_gpu and sides.tile_px is not None else sides.fit(WARM_PX)
    yield {tensor.name: sized(tensor, side_px) for tensor in inputs}


def has_guessed_values(inputs: Sequence[TensorSpec]) -> bool:
    """Whether a model may well refuse what it is warmed with: sizes that it leaves free, and strings."""
    return has_free_sizes(inputs) or any(tensor.dtype == "BYTES" for tensor in inputs)


def item_bytes(inputs: Sequence[TensorSpec], shapes: Shapes) -> int:
    """Of the inputs of one item."""
    return sum(NUMPY_OF[tensor.dtype].itemsize * math.prod(shapes[tensor.name]) for tensor in inputs)


def _zeros(tensor: TensorSpec, shape: tuple[int, ...], size: int) -> NDArray[Any]:
    dtype = NUMPY_OF[tensor.dtype]
    array = np.zeros((size, *shape) if size else shape, dtype=dtype)
    if dtype == np.object_:
        array[...] = "0"  # what graphs that read numbers from their strings accept too
    return array


def _values(tensor: TensorSpec, shape: tuple[int, ...], rng: np.random.RandomState) -> NDArray[Any]:
    """Of one item: noise for numbers of which every value is likely to be accepted, else zeros."""
    zeros = _zeros(tensor, shape, 1)
    if zeros.dtype.kind == "f":
        return rng.standard_normal(zeros.shape).astype(zeros.dtype)
    return rng.randint(0, 256, zeros.shape).astype(zeros.dtype) if zeros.dtype == np.uint8 else zeros
