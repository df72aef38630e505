"""Frechet distance between two sets of features.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017,
arXiv:1706.08500. On the features of one certain Inception network it is called FID.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Gaussian:
    """A mean (K,) and an unbiased covariance (K, K), float64."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


def fit(features: NDArray[np.float32]) -> Gaussian:
    """The Gaussian of (N, K), N >= 2."""
    rows = features.astype(np.float64)
    return Gaussian(rows.mean(0), np.atleast_2d(np.cov(rows, rowvar=False)))


def distance(one: Gaussian, other: Gaussian) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), not negative.

    tr (C1 C2)^(1/2) is tr (R C2 R)^(1/2) with R = C1^(1/2): the same eigenvalues, of a symmetric matrix, so that no
    imaginary part comes of fewer images than features.
    """
    root = _root(one.covariance)
    middle = root @ other.covariance @ root
    shared = np.sqrt(np.linalg.eigvalsh((middle + middle.T) / 2).clip(0)).sum()
    apart = np.square(one.mean - other.mean).sum()
    return max(0.0, float(apart + np.trace(one.covariance) + np.trace(other.covariance) - 2 * shared))


def spread(
    real: NDArray[np.float32], made: NDArray[np.float32], resamples: int, random: np.random.RandomState
) -> float:
    """Standard deviation of the distance over bootstrap resamples of both sets; 0 without any."""
    found = [distance(fit(_resampled(real, random)), fit(_resampled(made, random))) for _ in range(resamples)]
    return float(np.std(found, ddof=1)) if len(found) > 1 else 0.0


def floor(features: NDArray[np.float32], random: np.random.RandomState) -> float:
    """The distance between two random halves of one set: what even real images of half the number have."""
    order = random.permutation(len(features))
    half = len(order) // 2
    return distance(fit(features[order[:half]]), fit(features[order[half : 2 * half]]))


def _resampled(features: NDArray[np.float32], random: np.random.RandomState) -> NDArray[np.float32]:
    return features[random.randint(len(features), size=len(features))]


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    root: NDArray[np.float64] = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return root
