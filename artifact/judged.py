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
    return count_distance(count_classes(named.tolist(), rows.tolist(), len(counts[0]), len(counts)), counts)


def count_distance(counts: Sequence[Sequence[int]], golden: Sequence[Sequence[int]]) -> float:
    """How far counts are from golden statistics with as many rows; 1 is far. Each row is compared with its own, so that
    labels which have changed places are seen, and weighs as many images as it has."""
    seen, expected = np.asarray(counts, np.float64), np.asarray(golden, np.float64)
    own, images = seen.sum(axis=1, keepdims=True), expected.sum(axis=1, keepdims=True)
    weights = own / own.sum()
    shares = (expected + 1 / expected.shape[1]) / (images + 1)  # nothing is impossible because few images were judged
    apart = 0.5 * np.abs(seen / own.sum() - weights * shares).sum()
    # Of the difference in each class of each row: by chance among the images, and among those of the golden statistics.
    chances = 1 / np.maximum(own, 1) + 1 / np.maximum(images, 1)
    variance = weights**2 * shares * (1 - shares) * chances
    mean = 0.5 * np.sqrt(2 / np.pi * variance).sum()
    deviation = 0.5 * np.sqrt((1 - 2 / np.pi) * variance.sum())
    return float(apart / max(LEAST_SHARE, mean + DEVIATIONS * deviation))
