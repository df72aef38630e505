"""What nearest neighbours say: precision and recall, density and coverage, copies of training images, duplicates.

Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019, arXiv:1904.06991;
Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", 2020, arXiv:2002.09797. All distances are
computed in blocks, so that memory does not grow with the square of the number.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 1000
PRECISION_K = 3
DENSITY_K = 5


@dataclass(frozen=True)
class Manifolds:
    """Shares 0..1, but density, which may be above 1."""

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class Nearest:
    """For each image of one set the distance (N,) to its nearest in another, and which that is."""

    distances: NDArray[np.float64]
    indices: NDArray[np.int64]


def manifolds(real: NDArray[np.float32], made: NDArray[np.float32]) -> Manifolds:
    """Precision: generated images within the k-th neighbour's distance of some real one; recall: the reverse. Density
    counts how many real ones' balls an image is in; coverage: real ones with a generated image in theirs."""
    real_radii, made_radii = _radii(real), _radii(made)
    k = dict(zip(("precision", "density"), real_radii, strict=True))
    inside, counts = np.zeros(len(made), bool), np.zeros(len(made))
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for start, block in _blocks(real, made):
        stop = start + len(block)
        inside |= (block <= k["precision"][start:stop, None]).any(0)
        counts += (block <= k["density"][start:stop, None]).sum(0)
        recalled[start:stop] = (block <= made_radii[0][None]).any(1)
        covered[start:stop] = (block <= k["density"][start:stop, None]).any(1)
    density = float(counts.mean() / min(DENSITY_K, len(real) - 1))
    return Manifolds(float(inside.mean()), float(recalled.mean()), density, float(covered.mean()))


def nearest(of: NDArray[np.float32], among: NDArray[np.float32]) -> Nearest:
    """The nearest of `among` for each of `of`; of one and the same set, itself left out."""
    distances, indices = np.empty(len(of)), np.empty(len(of), np.int64)
    for start, block in _blocks(of, among):
        if of is among:
            rows = np.arange(len(block))
            block[rows, start + rows] = np.inf
        stop = start + len(block)
        indices[start:stop] = block.argmin(1)
        distances[start:stop] = block.min(1)
    return Nearest(distances, indices)


def _radii(features: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance to the neighbours PRECISION_K and DENSITY_K; the image itself is number 0."""
    ks = [min(k, len(features) - 1) for k in (PRECISION_K, DENSITY_K)]
    parts = [np.partition(block, ks, axis=1)[:, ks] for _, block in _blocks(features, features)]
    found = np.concatenate(parts)
    return found[:, 0], found[:, 1]


def _blocks(of: NDArray[np.float32], among: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Distances of BLOCK rows at a time, by the way that does not lose small ones to rounding: float64."""
    others = among.astype(np.float64)
    squares = np.square(others).sum(1)
    for start in range(0, len(of), BLOCK):
        rows = others[start : start + BLOCK] if of is among else of[start : start + BLOCK].astype(np.float64)
        found = np.square(rows).sum(1)[:, None] + squares[None] - 2 * rows @ others.T
        if of is among:
            within = np.arange(len(rows))
            found[within, start + within] = 0.0
        yield start, np.sqrt(found.clip(0))
