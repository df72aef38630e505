"""How a model's images are spread over the classes that a judge names, and whether others are spread likewise.

The distance is half the sum of the differences between the shares (total variation): the share of images that would
have to be of another class. It is said in units of what chance does at most, so that 1 is far, with few images as with
many.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Less than this share of the images in other classes is never far.
LEAST_SHARE = 0.15
# Chance moves the distance beyond its mean by so many standard deviations hardly ever.
DEVIATIONS = 5.0
# A judge of more classes has too few images of each.
MAX_CLASSES = 64


def count_classes(named: Sequence[int], rows: Sequence[int], classes: int, count: int) -> tuple[tuple[int, ...], ...]:
    """How many images of each row were named so: `count` rows of `classes` numbers."""
    found = np.zeros((count, classes), np.int64)
    np.add.at(found, (np.asarray(rows, np.intp), np.asarray(named, np.intp)), 1)
    return tuple(tuple(int(each) for each in row) for row in found)


def class_distance(counts: Sequence[Sequence[int]], rows: NDArray[np.intp], named: NDArray[np.intp]) -> float:
    """How far images are from golden statistics in their classes; 1 is far.

    Args:
        counts: of the golden statistics, a row for each label, or one.
        rows: of `counts`, for each of the images (N,): its label, or 0.
        named: (N,) the class that the judge names.
    """
    seen = np.bincount(named, minlength=len(counts[0]))
    return _distance(np.asarray(counts, np.float64), np.bincount(rows, minlength=len(counts)), seen)


def count_distance(counts: Sequence[Sequence[int]], others: Sequence[Sequence[int]]) -> float:
    """How far golden statistics are from others with as many rows; 1 is far."""
    own = np.asarray(counts)
    return _distance(np.asarray(others, np.float64), own.sum(axis=1), own.sum(axis=0))


def _distance(golden: NDArray[np.float64], of_rows: NDArray[np.int64], seen: NDArray[np.int64]) -> float:
    """`golden`: counts (R, K); `of_rows`: images that are compared, by row; `seen`: the same by class."""
    n, images = of_rows.sum(), golden.sum(axis=1, keepdims=True)
    weights = of_rows[:, None] / n
    shares = (golden + 1 / golden.shape[1]) / (images + 1)  # no class is impossible because few images were judged
    apart = 0.5 * np.abs(seen / n - (weights * shares).sum(axis=0)).sum()
    # Of the difference in each class: by chance among the images, and among those of the golden statistics.
    variance = (weights * shares * (1 - shares) * (1 / n + weights / np.maximum(images, 1))).sum(axis=0)
    mean = 0.5 * np.sqrt(2 / np.pi * variance).sum()
    deviation = 0.5 * np.sqrt((1 - 2 / np.pi) * variance.sum())
    return float(apart / max(LEAST_SHARE, mean + DEVIATIONS * deviation))
