"""Compares the exported graph with torch on fixed inputs, before anything is written."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from artifact.spec import FINITE, Parity
from export.errors import ExportError
from export.graph.samples import Arrays, inputs
from models.architecture import Bounds, Generator

DRAWING_SEEDS = (0, 1, 2, 3, 4)
PICTURE_SEEDS = (0, 1)
SIZES_PX = ((24, 32), (36, 20))  # alone, in a batch


@dataclass(frozen=True)
class Gate:
    """What export accepts: the largest difference in uint8 levels, the least PSNR over all pixels, and a way out."""

    levels: float
    psnr_db: float
    instead: str


# With every value rounded, the zoo's generators are at 54 dB and 4 levels or better in float16. bfloat16 has three bits
# less: 41 dB (a network of 351 convolutions) to 58 dB, and up to 23 levels in single pixels, on hard edges. The tests'
# networks, random ones, are at 39 dB and 30 levels or better but for one at 29 dB and 236 levels: another picture.
GATES = {
    "fp32": Gate(1.0, 0.0, ""),
    "fp16": Gate(6.0, 45.0, "; try --precision fp32"),
    "bf16": Gate(32.0, 38.0, "; try --precision fp16, which has three bits more, or fp32"),
}
OVERFLOWN = {"fp16": "; try --precision bf16 with --tensorrt, which reaches as far as float32, or fp32"}


@dataclass(frozen=True)
class Figures:
    """What was measured; `psnr_db` is over all pixels, infinite where both are equal."""

    parity: Parity
    psnr_db: float

    def __str__(self) -> str:
        return f"largest difference {self.parity.max_difference:.3g}, PSNR {self.psnr_db:.1f} dB"


def open_session(graph: Path | onnx.ModelProto) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU, with its own chatter off."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    opened = graph.SerializeToString() if isinstance(graph, onnx.ModelProto) else str(graph)
    return onnxruntime.InferenceSession(opened, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, arrays: Arrays) -> NDArray[np.generic]:
    """The graph's pictures, without the flags beside them."""
    output: NDArray[np.generic] = session.run([session.get_outputs()[0].name], arrays)[0]
    return output


def run_torch(module: nn.Module, arrays: Arrays) -> NDArray[np.generic]:
    """The module's output for the same arrays."""
    with torch.no_grad():
        output: torch.Tensor = module(*(torch.from_numpy(array) for array in arrays.values()))
    return output.numpy()


def tolerance(generator: Generator, tensors: str, precision: str) -> float:
    """The largest difference that export accepts, in the graph's own units (uint8 levels or the network's)."""
    levels = GATES[precision].levels
    if tensors == "uint8":
        return levels
    return generator.tolerance if precision == "fp32" else levels / 255.0 * span(generator.output_range)


def measure(
    session: onnxruntime.InferenceSession, module: nn.Module, generator: Generator, tensors: str, precision: str
) -> Figures:
    """Differences between ONNX Runtime and torch (float32), one row alone and several in a batch.

    Raises:
        ExportError: beyond the gate of `precision`, NaN or infinity, or another shape or dtype than torch gives.
    """
    seeds = DRAWING_SEEDS if generator.task.draws else PICTURE_SEEDS
    largest, squares, count = 0.0, 0.0, 0
    for rows, size_px in zip((seeds[:1], seeds), sizes_px(generator), strict=True):
        arrays = inputs(generator, tensors, rows, size_px)
        _require_finite(generator, rows, size_px)
        expected, found = run_torch(module, arrays), _run_finite(session, arrays, precision)
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise ExportError(f"graph gives {found.dtype} {found.shape}, torch {expected.dtype} {expected.shape}")
        difference = found.astype(np.float64) - expected.astype(np.float64)
        if not np.isfinite(difference).all():
            raise ExportError("the graph gives NaN or infinity on a fixed seed; nothing was written")
        largest = max(largest, float(np.abs(difference).max()))
        squares, count = squares + float((difference**2).sum()), count + difference.size
    parity = Parity(tolerance(generator, tensors, precision), largest, (1, len(seeds)), seeds)
    figures = Figures(parity, _psnr(squares / count, generator, tensors))
    _require_close(figures, precision)
    return figures


def worse(one: Figures, other: Figures) -> Figures:
    """The larger difference and the lower PSNR of two measurements on the same inputs."""
    largest = max(one.parity.max_difference, other.parity.max_difference)
    return Figures(replace(one.parity, max_difference=largest), min(one.psnr_db, other.psnr_db))


def sizes_px(generator: Generator) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two sizes (H, W) of pictures in, which differ also where the network's multiple is large."""
    side = max(generator.multiple_px, generator.least_px)
    return SIZES_PX if generator.multiple_px <= 4 else ((side, 2 * side), (2 * side, side))


def _run_finite(session: onnxruntime.InferenceSession, arrays: Arrays, precision: str) -> NDArray[np.generic]:
    """The graph's pictures, all of them finite by its own account where it gives one."""
    outputs = dict(zip((output.name for output in session.get_outputs()), session.run(None, arrays), strict=True))
    flags = outputs.pop(FINITE, None)
    if flags is not None and not flags.all():
        raise ExportError(
            f"{precision} gives NaN or infinity in {np.count_nonzero(~flags)} of {len(flags)} pictures of fixed seeds, "
            f"all must be finite; nothing was written{OVERFLOWN.get(precision, '')}"
        )
    found: NDArray[np.generic] = next(iter(outputs.values()))
    return found


def _require_finite(generator: Generator, rows: tuple[int, ...], size_px: tuple[int, int]) -> None:
    """The network's own output, which the cast to uint8 would hide, holds no NaN."""
    if not np.isfinite(run_torch(generator.network, inputs(generator, "float32", rows, size_px))).all():
        raise ExportError("the network gives NaN or infinity on a fixed seed; nothing was written")


def _psnr(mean_square: float, generator: Generator, tensors: str) -> float:
    peak = 255.0 if tensors == "uint8" else span(generator.output_range)
    return float("inf") if mean_square == 0 else float(10 * np.log10(peak**2 / mean_square))


def span(bounds: Bounds) -> float:
    """high - low, of the channel where it is widest."""
    low, high = bounds
    return float(np.max(np.subtract(high, low)))


def _require_close(figures: Figures, precision: str) -> None:
    parity, gate = figures.parity, GATES[precision]
    if parity.max_difference <= parity.tolerance and figures.psnr_db >= gate.psnr_db:
        return
    if precision == "fp32":
        raise ExportError(
            f"ONNX Runtime and torch differ by {parity.max_difference:.3g}, tolerance {parity.tolerance:.3g} (fp32); "
            "nothing was written"
        )
    raise ExportError(
        f"{precision} is {figures.psnr_db:.1f} dB from torch's float32 and differs by up to "
        f"{parity.max_difference:.3g}; at least {gate.psnr_db:g} dB and at most {parity.tolerance:.3g} are asked; "
        f"nothing was written{gate.instead}"
    )
