"""Frechet distance: how far drawn pictures are from real ones, as a judge sees them.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017,
arXiv:1706.08500. They take the features of a large network of photographs; here a small judge of the recipe's own data
gives them, so figures compare only with figures of the same judge and the same number of pictures.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """A mean (K,) and a covariance (K, K), float64."""

    mean: Tensor
    covariance: Tensor


def fit(features: Tensor) -> Gaussian:
    """The Gaussian of `features` (N, K), N >= 2; the covariance is the unbiased one."""
    rows = features.double().cpu()
    return Gaussian(rows.mean(0), torch.cov(rows.T).reshape(rows.shape[1], -1))


def distance(one: Gaussian, other: Gaussian) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), the squared 2-Wasserstein distance; not negative.

    tr (C1 C2)^(1/2) is computed as tr (R C2 R)^(1/2) with R = C1^(1/2): the same eigenvalues, of a symmetric matrix.
    """
    root = square_root(one.covariance)
    shared = square_root(root @ other.covariance @ root).trace()
    apart = (one.mean - other.mean).square().sum()
    return max(0.0, (apart + one.covariance.trace() + other.covariance.trace() - 2 * shared).item())


def square_root(matrix: Tensor) -> Tensor:
    """The symmetric root of a symmetric, positive semi-definite matrix (K, K) float64; negative rounding is 0."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def between(drawn: Tensor, real: Tensor) -> float:
    """`distance` of the Gaussians of two sets of features, (N, K) and (M, K)."""
    return distance(fit(drawn), fit(real))
