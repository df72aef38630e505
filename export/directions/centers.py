"""Centres of truncation: the middles of groups that w falls into, by k-means."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artifact.centers import MAX_CENTERS
from export.directions.space import Space
from export.errors import ExportError

SAMPLES = 60_000  # of w, as in the paper (artifact.centers)
_AT_ONCE = 1000
_ROUNDS = 30
# Less movement of the centres than this share of their spread is none.
_SETTLED = 1e-4


def check_centers(count: int, has_w: bool) -> None:
    """Raises ExportError if so many centres cannot be made."""
    if count and not has_w:
        raise ExportError(f"--truncation-centers {count}: the model has no w, whose centres they would be")
    if not 0 <= count <= MAX_CENTERS:
        raise ExportError(f"--truncation-centers {count}: must be 0 (none) to {MAX_CENTERS}")


def write_centers(space: Space, count: int, path: Path, progress: Callable[[str], None]) -> None:
    """Writes `centers.npy`: the same centres for the same model."""
    progress(f"truncation centres: {count} groups of {SAMPLES} w")
    w = np.concatenate([space.points(range(n, n + _AT_ONCE)) for n in range(0, SAMPLES, _AT_ONCE)])
    found, inside = k_means(w.astype(np.float64), count)
    whole = float(((w - w.mean(axis=0)) ** 2).sum(axis=1).mean())
    np.save(path, found.astype(np.float32), allow_pickle=False)
    progress(f"truncation centres: {100 * (1 - inside / whole):.0f} % of w's variance is between them")


def k_means(points: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], float]:
    """Middles of `count` groups (count, L) of points (N, L), the largest group first, and the mean squared distance to
    them. Lloyd's rounds from k-means++ (Arthur, Vassilvitskii, 2007); the same result for the same points."""
    random = np.random.RandomState(0)
    centers = points[random.randint(len(points))][None]
    nearest = _squares(points, centers)[:, 0]
    while len(centers) < count:
        drawn = random.choice(len(points), p=nearest / nearest.sum()) if nearest.sum() > 0 else len(centers)
        centers = np.concatenate([centers, points[drawn][None]])
        nearest = np.minimum(nearest, _squares(points, centers[-1:])[:, 0])
    for _ in range(_ROUNDS):
        groups = _squares(points, centers).argmin(axis=1)
        sizes = np.bincount(groups, minlength=count)
        sums = np.eye(count)[:, groups] @ points
        moved = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centers)
        far = np.linalg.norm(moved - centers) / max(1e-12, float(np.linalg.norm(centers - points.mean(axis=0))))
        centers = moved
        if far < _SETTLED:
            break
    squares = _squares(points, centers)
    sizes = np.bincount(squares.argmin(axis=1), minlength=count)
    return centers[np.argsort(-sizes, kind="stable")], float(squares.min(axis=1).mean())


def _squares(points: NDArray[np.float64], centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances (N, n)."""
    crossed = points @ centers.T
    found: NDArray[np.float64] = (points**2).sum(axis=1)[:, None] - 2 * crossed + (centers**2).sum(axis=1)
    return np.maximum(found, 0)
