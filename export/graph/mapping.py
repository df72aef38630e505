"""A StyleGAN's mapping network as a small graph of its own, next to the whole generator's, which stays as it is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from export.errors import ExportError
from export.graph.parity import open_session
from export.graph.samples import Arrays, sample_inputs
from export.graph.trace import save, trace
from models.architecture import Generator

SEEDS = (0, 1, 2, 3, 4)
# Of w, whose values are about 1: float32 arithmetic in another order.
TOLERANCE = 1e-4


def mapping_inputs(generator: Generator, seeds: tuple[int, ...]) -> Arrays:
    """`latent`, `label` if there are classes, and `truncation_psi` (N, layers), which falls from layer to layer."""
    assert generator.w_shape is not None
    arrays = sample_inputs(generator, "uint8", seeds)
    psi = np.linspace(1, -0.5, len(seeds) * generator.w_shape[0], dtype=np.float32)
    given: Arrays = {name: array for name, array in arrays.items() if name in ("latent", "label")}
    return {**given, "truncation_psi": psi.reshape(len(seeds), -1)}


def write_mapping(generator: Generator, path: Path, progress: Callable[[str], None]) -> onnxruntime.InferenceSession:
    """Writes the graph `latent`, [`label`], `truncation_psi` (N, layers) -> `w` (N, layers, length), and opens it.

    Raises:
        ExportError: torch cannot trace it, or the graph differs from it.
    """
    assert generator.mapping is not None
    module = generator.mapping.eval().requires_grad_(False)
    example = mapping_inputs(generator, SEEDS[:2])
    save(trace(module, example, {name: {0: "N"} for name in example}, "w"), path)
    session, arrays = open_session(path), mapping_inputs(generator, SEEDS)
    expected = module(*(torch.from_numpy(array) for array in arrays.values())).numpy()
    (found,) = session.run(["w"], dict(arrays))
    difference = float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))
    if not difference <= TOLERANCE:
        raise ExportError(f"{path.name} differs from torch by {difference:.3g}, tolerance {TOLERANCE:g}")
    progress(f"{path.name}: ONNX Runtime agrees with torch: largest difference {difference:.3g} of {TOLERANCE:g}")
    return session
