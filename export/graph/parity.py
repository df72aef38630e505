"""Compares exported graphs with torch on fixed inputs, before anything is written."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from artifact.spec import FINITE, Parity
from export.errors import ExportError
from export.graph.samples import Arrays, sample_inputs
from models.architecture import Bounds, Generator

GENERATE_SEEDS = (0, 1, 2, 3, 4)
IMAGE_SEEDS = (0, 1)
SIZES_PX = ((24, 32), (36, 20))  # of the single image, of those in a batch

Reference: TypeAlias = tuple[Arrays, NDArray[np.generic]]
"""Inputs, and what torch gives for them."""


@dataclass(frozen=True)
class Limits:
    """What export accepts of a precision: the largest difference in uint8 levels and the smallest PSNR over all pixels.

    `suggestion`: what the user can do if a network exceeds them.
    """

    levels: float
    psnr_db: float
    suggestion: str


# With every value rounded, the zoo's generators are at 54 dB and 4 levels or better in float16. bfloat16 has three bits
# less: 41 dB (a network of 351 convolutions) to 58 dB, and up to 23 levels in single pixels, on hard edges. The tests'
# networks, random ones, are at 39 dB and 30 levels or better but for one at 29 dB and 236 levels: another image.
LIMITS = {
    "fp32": Limits(1.0, 0.0, ""),
    "fp16": Limits(6.0, 45.0, "; try --precision fp32"),
    "bf16": Limits(32.0, 38.0, "; try --precision fp16, which has three bits more, or fp32"),
}
ON_OVERFLOW = {"fp16": "; try --precision bf16 with --tensorrt, which has the range of float32, or fp32"}


@dataclass(frozen=True)
class Measurement:
    """What was measured; `psnr_db` is over all pixels, infinite if both are equal."""

    parity: Parity
    psnr_db: float

    def __str__(self) -> str:
        return f"largest difference {self.parity.max_difference:.3g}, PSNR {self.psnr_db:.1f} dB"


def open_session(graph: Path | onnx.ModelProto) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU, logging errors only."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    opened = graph.SerializeToString() if isinstance(graph, onnx.ModelProto) else str(graph)
    return onnxruntime.InferenceSession(opened, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, arrays: Arrays) -> NDArray[np.generic]:
    """The graph's images, without the output `finite`."""
    output: NDArray[np.generic] = session.run([session.get_outputs()[0].name], arrays)[0]
    return output


def run_torch(module: nn.Module, arrays: Arrays) -> NDArray[np.generic]:
    """The module's output for the same arrays."""
    with torch.no_grad():
        output: torch.Tensor = module(*(torch.from_numpy(array) for array in arrays.values()))
    return output.numpy()


def tolerance(generator: Generator, tensors: str, precision: str) -> float:
    """The largest difference that export accepts, in the graph's own units (uint8 levels or the network's)."""
    levels = LIMITS[precision].levels
    if tensors == "uint8":
        return levels
    return generator.tolerance if precision == "fp32" else levels / 255.0 * span(generator.output_range)


def torch_references(module: nn.Module, generator: Generator, tensors: str) -> tuple[Reference, ...]:
    """What torch (float32) gives on the fixed inputs: one item alone, and several in a batch.

    Raises:
        ExportError: the network's own output, before any cast to uint8, has NaN or infinity.
    """
    found = []
    seeds = _seeds(generator)
    for batch, size_px in zip((seeds[:1], seeds), sizes_px(generator), strict=True):
        if not np.isfinite(run_torch(generator.network, sample_inputs(generator, "float32", batch, size_px))).all():
            raise ExportError("the network gives NaN or infinity on a fixed seed; nothing was written")
        arrays = sample_inputs(generator, tensors, batch, size_px)
        found.append((arrays, run_torch(module, arrays)))
    return tuple(found)


def measure(
    session: onnxruntime.InferenceSession,
    references: Sequence[Reference],
    generator: Generator,
    tensors: str,
    precision: str,
) -> Measurement:
    """Differences between ONNX Runtime and torch's `references`.

    Raises:
        ExportError: beyond the limits of `precision`, NaN or infinity, or another shape or dtype than torch gives.
    """
    largest, squares, count = 0.0, 0.0, 0
    for arrays, expected in references:
        found = _run_finite(session, arrays, precision)
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise ExportError(f"graph gives {found.dtype} {found.shape}, torch {expected.dtype} {expected.shape}")
        difference = found.astype(np.float64) - expected.astype(np.float64)
        if not np.isfinite(difference).all():
            raise ExportError("the graph gives NaN or infinity on a fixed seed; nothing was written")
        largest = max(largest, float(np.abs(difference).max()))
        squares, count = squares + float((difference**2).sum()), count + difference.size
    batch_sizes = tuple(len(expected) for _, expected in references)
    parity = Parity(tolerance(generator, tensors, precision), largest, batch_sizes, _seeds(generator))
    measured = Measurement(parity, _psnr_db(squares / count, generator, tensors))
    _require_close(measured, precision, generator)
    return measured


def worse(one: Measurement, other: Measurement) -> Measurement:
    """The larger difference and the lower PSNR of two measurements on the same inputs."""
    largest = max(one.parity.max_difference, other.parity.max_difference)
    return Measurement(replace(one.parity, max_difference=largest), min(one.psnr_db, other.psnr_db))


def sizes_px(generator: Generator) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two sizes (H, W) of input images, which differ also if the network's multiple is large."""
    side = max(generator.multiple_px, generator.least_px)
    return SIZES_PX if generator.multiple_px <= 4 else ((side, 2 * side), (2 * side, side))


def span(bounds: Bounds) -> float:
    """high - low, of the channel with the widest range."""
    low, high = bounds
    return float(np.max(np.subtract(high, low)))


def _seeds(generator: Generator) -> tuple[int, ...]:
    return GENERATE_SEEDS if generator.task.draws else IMAGE_SEEDS


def _run_finite(session: onnxruntime.InferenceSession, arrays: Arrays, precision: str) -> NDArray[np.generic]:
    """The graph's images; its output `finite`, if it has one, must be true for all of them."""
    outputs = dict(zip((output.name for output in session.get_outputs()), session.run(None, arrays), strict=True))
    flags = outputs.pop(FINITE, None)
    if flags is not None and not flags.all():
        raise ExportError(
            f"{precision} gives NaN or infinity in {np.count_nonzero(~flags)} of {len(flags)} images of fixed seeds, "
            f"all must be finite; nothing was written{ON_OVERFLOW.get(precision, '')}"
        )
    found: NDArray[np.generic] = next(iter(outputs.values()))
    return found


def _psnr_db(mean_square: float, generator: Generator, tensors: str) -> float:
    peak = 255.0 if tensors == "uint8" else span(generator.output_range)
    return float("inf") if mean_square == 0 else float(10 * np.log10(peak**2 / mean_square))


def doubt(generator: Generator) -> float:
    """How far torch's float32 is from its float64 for one item, in the network's own units; NaN if it has no float64.

    Beyond `generator.tolerance` the network's values are too large for float32, and every engine gives something else.
    """
    arrays = sample_inputs(generator, "float32", _seeds(generator)[:1], sizes_px(generator)[0])
    precise = {name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in arrays.items()}
    single = run_torch(generator.network, arrays).astype(np.float64)
    try:
        double = run_torch(copy.deepcopy(generator.network).double(), precise).astype(np.float64)
        return float(np.abs(single - double).max())
    except RuntimeError:  # it makes float32 within
        return float("nan")


def _require_close(measured: Measurement, precision: str, generator: Generator) -> None:
    parity, limits = measured.parity, LIMITS[precision]
    if parity.max_difference <= parity.tolerance and measured.psnr_db >= limits.psnr_db:
        return
    if precision == "fp32":
        found = doubt(generator)
        reason = f"; torch's own float32 is {found:.3g} from its float64 in the network's units"
        if found > generator.tolerance:
            reason += ": neither is right, the weights make values too large for float32, as before training"
        raise ExportError(
            f"ONNX Runtime and torch differ by {parity.max_difference:.3g}, tolerance {parity.tolerance:.3g} (fp32); "
            f"nothing was written{'' if np.isnan(found) else reason}"
        )
    raise ExportError(
        f"{precision} is {measured.psnr_db:.1f} dB from torch's float32 and differs by up to "
        f"{parity.max_difference:.3g}; at least {limits.psnr_db:g} dB and at most {parity.tolerance:.3g} are required; "
        f"nothing was written{limits.suggestion}"
    )
