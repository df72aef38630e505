"""The space that directions are looked for in, as points of it and the images that the served graph makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from artifact.dtypes import NUMPY_OF
from artifact.spec import Spec

SAMPLES = 4096  # of w, for its mean and spread
_MAPPED_AT_ONCE = 256


@dataclass(frozen=True)
class Space:
    """The latents of a generator, or of a StyleGAN its w.

    `session`: of the served graph, with pixels. `mapping`: of `mapping.onnx`, for w.
    """

    spec: Spec
    session: onnxruntime.InferenceSession
    mapping: onnxruntime.InferenceSession | None = None

    @property
    def name(self) -> str:
        """ "latent" or "w"."""
        return "latent" if self.mapping is None else "w"

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, length) of a point; a latent has one layer."""
        return (1, self.spec.latent_size) if self.spec.w_shape is None else self.spec.w_shape

    @cached_property
    def samples(self) -> NDArray[np.float32]:
        """w of the seeds 0, 1, ... without truncation: (SAMPLES, length)."""
        return np.concatenate([self.points(range(n, n + _MAPPED_AT_ONCE)) for n in range(0, SAMPLES, _MAPPED_AT_ONCE)])

    @cached_property
    def spread(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of the points: their principal axes (length, n), the largest first, and the standard deviation along each."""
        if self.mapping is None:
            return np.eye(self.shape[1]), np.ones(self.shape[1])
        variances, axes = np.linalg.eigh(np.cov(self.samples.astype(np.float64), rowvar=False))
        return axes[:, ::-1], np.sqrt(np.maximum(variances[::-1], 0))

    def sigma(self, vector: NDArray[np.float32]) -> float:
        """One standard deviation of the points along a vector (layers or 1, length)."""
        if self.mapping is None:
            return 1.0
        along = vector.mean(axis=0, dtype=np.float64)
        length = float(np.linalg.norm(along))
        if not length:
            return 0.0
        axes, deviations = self.spread
        return float(np.linalg.norm(deviations * (axes.T @ (along / length))))

    def points(self, seeds: Sequence[int]) -> NDArray[np.float32]:
        """The latents of seeds, or their w without truncation: (N, length)."""
        z = np.stack([np.random.RandomState(seed).randn(self.spec.latent_size) for seed in seeds]).astype(np.float32)
        if self.mapping is None:
            return z
        inputs: dict[str, NDArray[np.generic]] = {"latent": z}
        if self.spec.labels:
            inputs["label"] = self._labels(seeds)
        inputs["truncation_psi"] = np.ones((len(z), self.shape[0]), np.float32)
        (w,) = self.mapping.run(["w"], inputs)
        found: NDArray[np.float32] = w[:, 0]
        return found

    def images(self, points: NDArray[np.float32], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Images (N, H, W, C) of points (N, length) or (N, layers, length), with the labels and noise of the seeds."""
        given: dict[str, NDArray[np.generic]] = {
            "label": self._labels(seeds),
            "truncation_psi": np.ones(len(points), np.float32),
        }
        if self.mapping is None:
            given["latent"] = points.reshape(len(points), -1)
        else:
            rows = points if points.ndim == 3 else points[:, None]
            given["w"] = np.broadcast_to(rows, (len(points), *self.shape)).astype(np.float32)
            given["w_given"] = np.ones(len(points), np.float32)
        if self.spec.noise_size:
            noise = {seed: np.random.RandomState(seed).randn(self.spec.noise_size) for seed in set(seeds)}
            given["noise"] = np.stack([noise[seed] for seed in seeds]).astype(np.float32)
        inputs = {
            tensor.name: given.get(tensor.name, self._zeros(tensor.name, len(points))) for tensor in self.spec.inputs
        }
        return run_images(self.session, inputs)

    def _labels(self, seeds: Sequence[int]) -> NDArray[np.int64]:
        return np.array([seed % max(1, len(self.spec.labels)) for seed in seeds], np.int64)

    def _zeros(self, name: str, n: int) -> NDArray[np.generic]:
        tensor = next(each for each in self.spec.inputs if each.name == name)
        return np.zeros((n, *tensor.shape), NUMPY_OF[tensor.dtype])


def run_images(session: onnxruntime.InferenceSession, inputs: Mapping[str, NDArray[np.generic]]) -> NDArray[np.uint8]:
    """The graph's images, item by item if it has a batch axis of one."""
    output = session.get_outputs()[0].name
    n = len(next(iter(inputs.values())))
    if session.get_inputs()[0].shape[0] != 1:
        images: NDArray[np.uint8] = session.run([output], dict(inputs))[0]
        return images
    each = [session.run([output], {name: array[i : i + 1] for name, array in inputs.items()})[0] for i in range(n)]
    return np.concatenate(each)
