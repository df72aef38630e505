"""What a generator's images are like on the whole: measured at export, and compared with what a server makes.

An image is looked at in a grid of points: three figures of each channel, and whether it is flat, black or
saturated. A server's images are compared in standard deviations of one image, so that a model whose images vary much is
given as much room: 1 is far for the mean of many images, whatever the model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.judged import count_classes, count_distance

# Points along each side of an image.
SIDE = 16
# With so many classes or fewer each has figures of its own: the comparison then does not depend on which are requested.
MAX_CLASSES = 64
# A figure that hardly varies between images is given so much room nevertheless: 2 levels of 255.
LEAST_SPREAD = 2 / 255
# A share whose images are all alike is given so much room: a quarter of the images.
LEAST_SHARE_SPREAD = 0.25
# In levels of 255. Channels of a flat image differ by at most so much within it, and a black one has no value above.
FLAT_LEVELS = 8
# Images whose points differ by less, root mean square, are the same to the eye.
SAME_LEVELS = 2.0
# Of each channel: its mean, its standard deviation within an image, and how much neighbouring points differ on average.
FIGURES = ("mean", "deviation", "detail")
SHARES = ("flat", "black", "saturated", "duplicate")

Points = NDArray[np.uint8]
# Images: in pieces whose arrays stay in the processor's cache.
_AT_ONCE = 32


@dataclass(frozen=True)
class Golden:
    """Figures of `images` images that were made at export with the model's defaults, each of another seed.

    Values are 0 to 1 (255 is 1). `figures`: each of FIGURES by channel, averaged over the images of a class; a
    row for each class, or one for all. `spread`: their standard deviation among images of one row. `shares`: of the
    images that are so. `judged`: as many rows, of how many images a judge put into each of its classes; `judge`: which
    one that was, by a sha256. Both are empty without a judge.
    """

    images: int
    figures: Mapping[str, tuple[tuple[float, ...], ...]]
    spread: Mapping[str, tuple[float, ...]]
    shares: Mapping[str, float]
    judged: tuple[tuple[int, ...], ...] = ()
    judge: str = ""

    @property
    def channels(self) -> int:
        """Of the images."""
        return len(self.spread["mean"])

    @property
    def is_by_class(self) -> bool:
        """Whether each class has a row."""
        return len(self.figures["mean"]) > 1

    def is_like(self, other: "Golden") -> bool:
        """Whether the two can be compared: as many channels and rows."""
        return self.channels == other.channels and len(self.figures["mean"]) == len(other.figures["mean"])

    def is_judged_like(self, other: "Golden") -> bool:
        """Whether one judge said of both how many images are of each class."""
        if not (self.judged and other.judged) or len(self.judged[0]) != len(other.judged[0]):
            return False
        return self.judge == other.judge and self.is_like(other)

    def problem(self, classes: int) -> str:
        """What is wrong with the numbers of a model of so many classes; "" if nothing is."""
        for field, found, names in (
            ("figures", self.figures, FIGURES), ("spread", self.spread, FIGURES), ("shares", self.shares, SHARES),
        ):  # fmt: skip
            if set(found) != set(names):
                return f"{field} has {sorted(found)}, must have {sorted(names)}"
        numbers: list[float] = [*self.shares.values()]
        for name in FIGURES:
            rows = self.figures[name]
            if len(rows) not in (1, max(1, classes)) or len(rows) != len(self.figures["mean"]):
                return f"figures.{name} has {len(rows)} rows, must have 1, or one for each of {classes} classes"
            if any(len(row) != self.channels or not row for row in (*rows, self.spread[name])):
                return f"figures.{name} and spread.{name} must have a number for each channel"
            numbers += [value for row in (*rows, self.spread[name]) for value in row]
        if self.images < 1 or not all(0 <= value <= 1 for value in numbers):
            return "images must be 1 or more, the other numbers 0 to 1"
        return self._problem_of_judged()

    def _problem_of_judged(self) -> str:
        counts = [number for row in self.judged for number in row]
        if self.judged and len(self.judged) != len(self.figures["mean"]):
            return f"judged has {len(self.judged)} rows, figures {len(self.figures['mean'])}"
        if len({len(row) for row in self.judged}) > 1 or any(number < 0 for number in counts):
            return "judged must have rows of one length, of numbers of images"
        if counts and sum(counts) != self.images:
            return f"judged has {sum(counts)} images, must have {self.images}"
        return ""


@lru_cache(maxsize=1024)
def _grid(height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows, columns = (((np.arange(SIDE) + 0.5) * side / SIDE).astype(np.intp) for side in (height, width))
    return rows[:, None], columns[None]


def points_of(image: NDArray[Any]) -> Points:
    """(SIDE, SIDE, C) of an image (H, W, C), whatever its size: uint8, or floats of 0 to 1. A few microseconds."""
    found = image[_grid(*image.shape[:2])]
    return found if found.dtype == np.uint8 else np.rint(np.clip(found, 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class Measured:
    """Of N images: `figures`, (N, C) of 0 to 1; `shares`: which images are flat, black ..., (N,) bool."""

    figures: Mapping[str, NDArray[np.float64]]
    shares: Mapping[str, NDArray[np.bool_]]

    @staticmethod
    def of(points: NDArray[np.uint8]) -> "Measured":
        """From the points (N, SIDE, SIDE, C) of images."""
        parts = [_measure(points[start : start + _AT_ONCE]) for start in range(0, len(points), _AT_ONCE)]
        figures = {name: np.concatenate([part.figures[name] for part in parts]) for name in FIGURES}
        shares = {name: np.concatenate([part.shares[name] for part in parts]) for name in parts[0].shares}
        return Measured(figures, {**shares, "duplicate": _duplicates(points)})


def _measure(points: NDArray[np.uint8]) -> Measured:
    """All but the duplicates."""
    levels = np.ascontiguousarray(points.transpose(0, 3, 1, 2))  # ten times as fast as it comes
    values = levels.astype(np.float32) / 255
    high, low = levels.max(axis=(2, 3)), levels.min(axis=(2, 3))
    down, across = (np.abs(np.diff(values, axis=axis)).mean(axis=(2, 3), dtype=np.float64) for axis in (2, 3))
    clipped = ((levels == 0) | (levels == 255)).mean(axis=(1, 2, 3))
    figures = {
        "mean": values.mean(axis=(2, 3), dtype=np.float64),
        "deviation": values.std(axis=(2, 3), dtype=np.float64),
        "detail": (down + across) / 2,
    }
    shares = {
        "flat": (high - low).max(axis=1) <= FLAT_LEVELS,
        "black": high.max(axis=1) <= FLAT_LEVELS,
        "saturated": clipped > 0.5,
    }
    return Measured(figures, shares)


def _duplicates(points: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of the images are the same as another to the eye, by every other row and column."""
    n = len(points)
    vectors = points[:, ::2, ::2].reshape(n, -1).astype(np.float32)
    vectors -= vectors.mean(axis=0)  # small numbers, which float32 multiplies exactly enough
    squares = np.einsum("ij,ij->i", vectors, vectors)
    distances = vectors @ vectors.T
    distances *= -2
    distances += squares[:, None]
    distances += squares
    np.fill_diagonal(distances, np.inf)
    return np.asarray(distances.min(axis=1, initial=np.inf) < SAME_LEVELS**2 * vectors.shape[1])


def measure(
    points: NDArray[np.uint8],
    labels: Sequence[int],
    classes: int,
    named: Sequence[int] = (),
    judge: tuple[str, int] = ("", 0),
) -> Golden:
    """Golden statistics of the points (N, SIDE, SIDE, C) of a model's images, made with these labels. A class has
    figures of its own if there are not too many, and each was seen twice.

    Args:
        named: the class of each image, as a judge says.
        judge: what that is called in `Golden`, and how many classes it names; 0: there is none.
    """
    measured = Measured.of(points)
    given = np.asarray(labels)
    by_class = 1 < classes <= MAX_CLASSES and all(np.sum(given == each) >= 2 for each in range(classes))
    rows = given if by_class else np.zeros(len(points), np.intp)
    count = classes if by_class else 1
    figures, spread = {}, {}
    for name, values in measured.figures.items():
        centres = np.stack([values[rows == row].mean(axis=0) for row in range(count)])
        figures[name] = tuple(_numbers(row) for row in centres)
        spread[name] = _numbers(np.sqrt(((values - centres[rows]) ** 2).sum(axis=0) / max(1, len(points) - count)))
    shares = {name: round(float(found.mean()), 4) for name, found in measured.shares.items()}
    judged = count_classes(named, rows.tolist(), judge[1], count) if judge[1] else ()
    return Golden(len(points), figures, spread, shares, judged, judge[0])


def compare(golden: Golden, measured: Measured, rows: NDArray[np.intp]) -> Iterator[tuple[str, float]]:
    """How far images are from the golden statistics, in standard deviations of one image, by what is compared.

    Args:
        rows: of the golden statistics, for each image: its class, or 0.
    """
    for name, values in measured.figures.items():
        room = np.maximum(golden.spread[name], LEAST_SPREAD)
        distances = (values - np.asarray(golden.figures[name])[rows]) / room
        yield name, float(np.abs(distances.mean(axis=0)).max())
    for name, found in measured.shares.items():
        yield name, _apart(name, float(found.mean()), golden.shares[name])


def difference(golden: Golden, earlier: Golden) -> Mapping[str, float]:
    """How far one model's golden statistics are from another's of as many rows and channels, in standard deviations of
    one of its images."""
    found = {}
    for name, rows in golden.figures.items():
        room = np.maximum(earlier.spread[name], LEAST_SPREAD)
        distances = (np.asarray(rows) - np.asarray(earlier.figures[name])) / room
        found[name] = float(np.abs(distances.mean(axis=0)).max())
    for name, share in golden.shares.items():
        found[name] = _apart(name, share, earlier.shares[name])
    if golden.is_judged_like(earlier):
        found["class"] = count_distance(golden.judged, earlier.judged)
    return found


def _apart(name: str, share: float, expected: float) -> float:
    apart = share - expected
    if name == "duplicate":  # there are fewer among fewer images
        apart = max(0.0, apart)
    return abs(apart) / max(float(np.sqrt(expected * (1 - expected))), LEAST_SHARE_SPREAD)


def _numbers(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)
