"""`critic.onnx`: the discriminator with pixels inside, and how it scores the generator's own images."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from artifact.dtypes import NUMPY_OF
from artifact.repository import CRITIC
from artifact.spec import CriticSpec, Parity, Spec
from export.critic.find import FoundCritic
from export.directions.space import run_images
from export.errors import ExportError
from export.graph.parity import open_session
from export.graph.pixels import Affine, from_levels
from export.graph.trace import save, trace
from models.architecture import Bounds
from models.critics.critic import Compares

SEEDS = (0, 1, 2, 3, 4)  # of the images on which graph and torch are compared
# Of the score's size on these images, or of 1 if that is larger: float32 arithmetic in another order.
TOLERANCE = 1e-3
IMAGES = 1024
# With up to so many classes each has quantiles of its own, of so many images, if the critic takes them.
MOST_ROWS, IMAGES_OF_A_ROW = 16, 256
QUANTILES = 101
# References come from seeds that the measured images do not.
FIRST_REFERENCE = 1_000_000
# `auto` leaves out what takes longer; a discriminator that was asked for takes its time.
AUTO_S = 120.0
_AT_ONCE = 16


class Progress(Protocol):
    """Called with a line for each step; while a long one runs, also with the share of it that is done (0..1)."""

    def __call__(self, line: str, share: float | None = None, /) -> None:
        """Shows it."""


class Judge(nn.Module):
    """Pixels (N, H, W, C) uint8 in, and a label (N,) int64 if the network takes one; scores (N,) out."""

    def __init__(self, network: nn.Module, bounds: Bounds) -> None:
        super().__init__()
        self.network = network
        self.scale: Affine = from_levels(bounds)

    def values(self, image: Tensor) -> Tensor:
        """What the network takes, (N, C, H, W) float32."""
        values: Tensor = self.scale(image.to(torch.float32).permute(0, 3, 1, 2))
        return values

    def forward(self, *inputs: Tensor) -> Tensor:
        """Scores (N,) float32."""
        image, *label = inputs
        scores: Tensor = self.network(self.values(image), *label)
        return scores


@dataclass(frozen=True)
class OwnImages:
    """The generator's images by seed, as the server makes them: label seed % classes, the default truncation."""

    spec: Spec
    session: onnxruntime.InferenceSession

    def labels(self, seeds: Sequence[int]) -> NDArray[np.int64]:
        """(N,)."""
        return np.array([seed % max(1, len(self.spec.labels)) for seed in seeds], np.int64)

    def of(self, seeds: Sequence[int]) -> NDArray[np.uint8]:
        """(N, H, W, C)."""
        spec, n = self.spec, len(seeds)
        size = spec.latent_size
        streams = np.stack([np.random.RandomState(seed).randn(size + spec.noise_size) for seed in seeds])
        given: dict[str, NDArray[np.generic]] = {
            "latent": streams[:, :size].astype(np.float32),
            "noise": streams[:, size:].astype(np.float32),
            "label": self.labels(seeds),
            "truncation_psi": np.full(n, spec.truncation_default or 0, np.float32),
        }
        neutral = {
            tensor.name: np.zeros((n, *tensor.shape), NUMPY_OF[tensor.dtype])
            for tensor in spec.inputs
            if tensor.name not in given
        }
        return run_images(self.session, {tensor.name: {**neutral, **given}[tensor.name] for tensor in spec.inputs})


def write_critic(
    found: FoundCritic, spec: Spec, session: onnxruntime.InferenceSession, bounds: Bounds, path: Path,
    progress: Progress,
) -> tuple[CriticSpec | None, tuple[str, ...]]:  # fmt: skip
    """Writes the critic's graph; what the manifest says of it, None if it was left out, and what the user should know.

    Args:
        spec: the generator's.
        session: of the generator's graph.
        bounds: the values of black and white that the discriminator was trained on.

    Raises:
        ExportError: torch cannot trace the network, or the graph differs from it, or its scores are not finite.
    """
    own, network = OwnImages(spec, session), found.critic.network
    judge = Judge(network, bounds).eval()
    references: tuple[int, ...] = ()
    if isinstance(network, Compares):
        references = tuple(range(FIRST_REFERENCE, FIRST_REFERENCE + found.critic.group - 1))
        with torch.no_grad():
            network.refer(judge.values(torch.from_numpy(own.of(references))))
    takes_label = found.critic.classes > 0
    example = _inputs(own, SEEDS[:2], takes_label)
    save(trace(judge, example, {name: {0: "N"} for name in example}, "score"), path)
    graph = open_session(path)
    parity = _parity(judge, graph, _inputs(own, SEEDS, takes_label))
    progress(
        f"{path.name}: ONNX Runtime agrees with torch: largest difference {parity.max_difference:.3g} "
        f"(tolerance {parity.tolerance:.3g})"
    )
    rows = len(spec.labels) if takes_label and len(spec.labels) <= MOST_ROWS else 1
    images = IMAGES_OF_A_ROW if rows > 1 else IMAGES
    scores = _scores(found, own, graph, takes_label, rows * images, progress)
    if isinstance(scores, str):
        return None, (scores,)
    # Label by label: that of a seed is seed % rows.
    levels = np.linspace(0, 1, QUANTILES)
    quantiles = tuple(tuple(float(each) for each in np.quantile(scores[row::rows], levels)) for row in range(rows))
    return CriticSpec(
        found.layout, found.critic.hyperparameters, takes_label, found.provenance, parity, images, quantiles, references
    ), ()


def add_critic(
    found: FoundCritic, spec: Spec, session: onnxruntime.InferenceSession, bounds: Bounds, folder: Path,
    progress: Progress,
) -> tuple[Spec, Mapping[str, Path], tuple[str, ...]]:  # fmt: skip
    """The spec with the critic, its files by name, and what the user should know; arguments as of `write_critic`."""
    path = folder / CRITIC
    critic, notes = write_critic(found, spec, session, bounds, path, progress)
    if critic is None:
        return spec, {}, notes
    provenance = replace(critic.provenance, exported_with=spec.provenance.exported_with)
    return replace(spec, critic=replace(critic, provenance=provenance)), {CRITIC: path}, notes


def _inputs(own: OwnImages, seeds: Sequence[int], takes_label: bool) -> dict[str, NDArray[np.generic]]:
    label: dict[str, NDArray[np.generic]] = {"label": own.labels(seeds)} if takes_label else {}
    return {"image": own.of(seeds), **label}


def _parity(judge: Judge, graph: onnxruntime.InferenceSession, arrays: Mapping[str, NDArray[np.generic]]) -> Parity:
    """The graph against torch, for one image and for several.

    Raises:
        ExportError: they differ, or scores are not finite.
    """
    largest = size = 0.0
    n = len(arrays["image"])
    for batch in (1, n):
        part = {name: array[:batch] for name, array in arrays.items()}
        with torch.no_grad():
            expected = judge(*(torch.from_numpy(array) for array in part.values())).numpy()
        (scores,) = graph.run(["score"], part)
        if not (np.isfinite(expected).all() and np.isfinite(scores).all()):
            raise ExportError("the discriminator gives NaN or infinity for an image of the generator")
        largest = max(largest, float(np.abs(scores - expected).max()))
        size = max(size, float(np.abs(expected).max()))
    tolerance = TOLERANCE * max(1.0, size)
    if largest > tolerance:
        raise ExportError(f"critic: ONNX Runtime and torch differ by {largest:.3g}, tolerance {tolerance:.3g}")
    return Parity(tolerance, largest, (1, n), SEEDS)


def _scores(
    found: FoundCritic, own: OwnImages, graph: onnxruntime.InferenceSession, takes_label: bool, n: int,
    progress: Progress,
) -> NDArray[np.float64] | str:  # fmt: skip
    """The scores (n,) of the seeds from 0 on; or why they were not measured."""
    scores: list[NDArray[np.float32]] = []
    started = time.perf_counter()
    for first in range(0, n, _AT_ONCE):
        progress("scoring the model's own images", first / n)
        scores += graph.run(["score"], _inputs(own, range(first, min(first + _AT_ONCE, n)), takes_label))
        seconds = (time.perf_counter() - started) * n / (first + _AT_ONCE)
        if not found.asked and first == 2 * _AT_ONCE and seconds > AUTO_S:
            return (
                f"no critic: scoring {n} of the model's own images would take about {seconds:.0f} s, more than "
                f"{AUTO_S:g}; --discriminator same or FILE takes its time"
            )
    every = np.concatenate(scores).astype(np.float64)
    if not np.isfinite(every).all():
        raise ExportError("the discriminator gives NaN or infinity for an image of the generator")
    return every
