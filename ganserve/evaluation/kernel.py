"""Kernel distance: Binkowski et al., "Demystifying MMD GANs", 2018, arXiv:1801.01401; KID on Inception's features."""

import numpy as np
from numpy.typing import NDArray

SUBSETS = 100
SUBSET_IMAGES = 1000


def distance(
    real: NDArray[np.float32],
    made: NDArray[np.float32],
    random: np.random.RandomState,
    subsets: int = SUBSETS,
    size: int | None = None,
) -> tuple[float, float, int]:
    """Mean and standard deviation over random subsets of equal size, and that size: the unbiased squared maximum mean
    discrepancy with the kernel (x.y / K + 1)^3, which may be a little below 0.

    Without a size it is SUBSET_IMAGES, or half of the smaller set, since subsets that are the whole set have no spread.
    """
    if size is None:
        size = min(SUBSET_IMAGES, max(2, min(len(real), len(made)) // 2))
    found = [_mmd2(_subset(real, size, random), _subset(made, size, random)) for _ in range(subsets)]
    return float(np.mean(found)), float(np.std(found)), size


def _subset(features: NDArray[np.float32], size: int, random: np.random.RandomState) -> NDArray[np.float64]:
    return features[random.choice(len(features), size, replace=False)].astype(np.float64)


def _mmd2(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    n = len(x)
    within = sum(kernel.sum() - np.trace(kernel) for kernel in (_kernel(x, x), _kernel(y, y))) / (n * (n - 1))
    return float(within - 2 * _kernel(x, y).mean())


def _kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    kernel: NDArray[np.float64] = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel
