"""Directions of any served graph: along which its images change the most, on average over the latent space.

The eigenvectors of the mean of J'J, where J is the derivative of the image by the latent, found by central differences
(after Ramesh, Choi, LeCun, "A Spectral Regularizer for Unsupervised Disentanglement", 2018, arXiv:1812.01161, and Wang,
Ponce, "The Geometry of Deep Generative Image Models and its Applications", 2021, arXiv:2101.06006). Nothing but the
graph is needed.
"""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from export.directions.space import Space

POINTS = 8
# In standard deviations. The images are rounded to levels, so that smaller steps vanish.
STEP = 0.2
AT_ONCE = 16
# Images are averaged down to this before they are compared: memory, and fine texture is no direction.
SIDE_PX = 64
# In w most axes hardly vary.
MAX_AXES = 128


def axes_of(space: Space) -> NDArray[np.float64]:
    """What is varied: columns (length, n) of one standard deviation each."""
    axes, deviations = space.spread
    found: NDArray[np.float64] = (axes * deviations)[:, :MAX_AXES]
    return found


def estimate_s(space: Space) -> float:
    """How long `sensitive` takes, from the faster of three batches: the first one warms up, others may be disturbed."""
    points = np.repeat(space.points([0]), AT_ONCE, axis=0)
    seconds, n = [], axes_of(space).shape[1]
    for _ in range(3):
        started = time.perf_counter()
        space.images(points, [0] * AT_ONCE)
        seconds.append(time.perf_counter() - started)
    return min(seconds) / AT_ONCE * POINTS * 2 * int(n)


def sensitive(space: Space, progress: Callable[[str, float], None]) -> NDArray[np.float64]:
    """Displacements (n, length) of one standard deviation each, the one that changes images the most first.

    Args:
        progress: called with a line and the share that is done.
    """
    axes = axes_of(space)
    n = axes.shape[1]
    total = np.zeros((n, n))
    for seed in range(POINTS):
        progress("measuring which directions change the images", seed / POINTS)
        slopes = _slopes(space, axes, seed)
        total += slopes @ slopes.T
    values, vectors = np.linalg.eigh(total)
    ordered = vectors[:, np.argsort(values)[::-1]]
    found: NDArray[np.float64] = (axes @ ordered).T
    return found


def _slopes(space: Space, axes: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """How the image of a seed changes along each axis: (n, pixels)."""
    point = space.points([seed])[0]
    found = []
    for start in range(0, axes.shape[1], AT_ONCE // 2):
        moved = STEP * axes[:, start : start + AT_ONCE // 2].T
        points = np.concatenate([point + moved, point - moved]).astype(np.float32)
        images = reduced(space.images(points, [seed] * len(points)))
        found.append((images[: len(moved)] - images[len(moved) :]) / (2 * STEP))
    return np.concatenate(found)


def reduced(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, pixels) of images (N, H, W, C), averaged over squares so that no side has more than SIDE_PX."""
    n, height, width, channels = images.shape
    step = -(-max(height, width) // SIDE_PX)
    if step > 1:
        images = np.pad(images, ((0, 0), (0, -height % step), (0, -width % step), (0, 0)), mode="edge")
    rows, columns = images.shape[1] // step, images.shape[2] // step
    squares = images.reshape(n, rows, step, columns, step, channels).astype(np.float64)
    return np.asarray(squares.mean(axis=(2, 4))).reshape(n, -1)
