"""Fixed inputs, and what an engine gives for them: values near ONNX Runtime's, the same bytes in every batch."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.dtypes import NUMPY_OF
from artifact.shapes import sized
from artifact.spec import Spec, TensorSpec
from server.repository.cpu.subject import Items, RunFailed, Subject

# Parity of images with ONNX Runtime in float32, over all fixed inputs, in levels of uint8.
MIN_PSNR_DB = 45.0
MAX_LEVELS = 24
# Other floats in float32: difference allowed, as a share of the output's largest absolute value.
FLOAT_SHARE = 1e-3


def make_items(inputs: Sequence[TensorSpec], spec: Spec | None, side_px: int, count: int) -> Items:
    """The fixed inputs that engines are compared on: item i is of seed i, and its values are what requests would have.

    Images are blocks of colour on a gradient, every other one is noise. `side_px`: of every free axis.

    Raises:
        RunFailed: an input is text, for which there are no values that mean something.
    """
    if any(tensor.dtype == "BYTES" for tensor in inputs):
        raise RunFailed("it has an input of text")
    return {tensor.name: np.stack([_item(tensor, spec, side_px, seed) for seed in range(count)]) for tensor in inputs}


def _item(tensor: TensorSpec, spec: Spec | None, side_px: int, seed: int) -> NDArray[Any]:
    shape, dtype = sized(tensor, side_px), NUMPY_OF[tensor.dtype]
    random = np.random.RandomState(seed)
    if spec is not None and tensor.name == "truncation_psi":
        return np.full(shape, spec.truncation_default, dtype)
    if spec is not None and tensor.name in (
        "w",
        "w_given",
        "transform",
    ):  # from the latent, so that the mapping network runs too
        return np.zeros(shape, dtype)
    if spec is not None and tensor.name == "label":
        return np.full(shape, seed % max(1, len(spec.labels)), dtype)
    if dtype == np.uint8:
        noise = random.randint(0, 256, shape)
        return (noise if seed % 2 else _blocks(noise)).astype(dtype)
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return np.zeros(shape, dtype)  # of an index every other value may be too large


def _blocks(noise: NDArray[Any], block: int = 8) -> NDArray[Any]:
    """Each block of an image filled with its first pixel, on a gradient along the first axis."""
    if noise.ndim < 2:
        return noise
    rows, columns = (np.arange(axis) // block * block for axis in noise.shape[:2])
    gradient = np.linspace(0, 63, noise.shape[0]).reshape(-1, *[1] * (noise.ndim - 1))
    return noise[rows][:, columns] * 0.75 + gradient


def deviation(expected: Sequence[Items], found: Sequence[Items], precision: str) -> str:
    """How an engine's outputs are farther from ONNX Runtime's than `precision` allows; "" if they are not.

    `expected`, `found`: of the same items, each run alone.
    """
    for name in expected[0]:
        pairs = [(item[name], other.get(name)) for item, other in zip(expected, found, strict=True)]
        if any(theirs is None or ours.shape != theirs.shape or ours.dtype != theirs.dtype for ours, theirs in pairs):
            return f"output {name!r} has another shape or type"
        one, other = (np.concatenate([item[name].ravel() for item in items]) for items in (expected, found))
        far = _deviation(one, other, precision) if one.size else ""
        if far:
            return f"output {name!r} {far}"
    return ""


def _deviation(expected: NDArray[Any], found: NDArray[Any], precision: str) -> str:
    if expected.dtype == np.uint8:
        return _levels_apart(expected.astype(np.float64), found.astype(np.float64), 255.0)
    if expected.dtype.kind != "f":
        return "" if np.array_equal(expected, found) else "has other values"
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], found[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return "has NaN or infinity in other places"
    one, other = (np.where(finite, values, 0).astype(np.float64) for values in (expected, found))
    if precision != "fp32":
        return _levels_apart(one, other, float(np.ptp(one)) or 1.0)
    share = np.abs(one - other).max() / (np.abs(one).max() or 1.0)
    limit = f"at most {FLOAT_SHARE:.1%}"
    return "" if share <= FLOAT_SHARE else f"differs by {share:.2%} of its largest value; {limit} is accepted"


def _levels_apart(expected: NDArray[Any], found: NDArray[Any], peak: float) -> str:
    """How far, by PSNR and by the largest difference; `peak`: the range, which has 255 levels."""
    difference = np.abs(expected - found) * (255.0 / peak)
    error = np.square(difference).mean()
    psnr_db = 20 * math.log10(255.0) - 10 * math.log10(error) if error else math.inf
    largest = difference.max()
    if psnr_db >= MIN_PSNR_DB and largest <= MAX_LEVELS:
        return ""
    limits = f"{MIN_PSNR_DB:g} dB and {MAX_LEVELS} levels are required"
    return f"has {psnr_db:.1f} dB and differs by up to {largest:.0f} levels; {limits}"


def mixing(
    subject: Subject, items: Items, alone: Sequence[Items], sizes: Sequence[int], go_on: Callable[[], None]
) -> str:
    """Where the bytes of an item depend on its batch, on the lanes, or on having the whole device; "" if nowhere.

    Args:
        items: the inputs, as many items as the largest of `sizes`.
        alone: the outputs of the first of them, each run alone.
        sizes: batch sizes; [0] for a graph without a batch axis.
        go_on: raises what ends it.

    Raises:
        RunFailed: the engine fails.
    """
    for size in sizes:
        arrays = {name: array[:size] for name, array in items.items()} if size else items
        go_on()
        runs = [(subject.run(arrays, whole), " with the whole device" if whole else "") for whole in (False, True)]
        go_on()
        runs += [(outputs, " on several lanes") for outputs in subject.run_on_lanes(arrays)]
        for outputs, how in runs:
            if not all(_same(each, outputs, index, size) for index, each in enumerate(alone[: max(1, size)])):
                return f"items have other bytes in a batch of {max(1, size)}{how} than alone"
    return ""


def _same(alone: Items, outputs: Items, index: int, size: int) -> bool:
    """Whether the item has the same bytes in a run of `size`."""
    parts = {name: outputs[name][index : index + 1] if size else outputs[name] for name in alone}
    return all(array.tobytes() == parts[name].tobytes() for name, array in alone.items())
