"""Percentiles and medians, by one definition for every table."""

import math
from collections.abc import Sequence
from typing import NamedTuple


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all values do not exceed, by nearest rank; nan where there is none."""
    if not values:
        return math.nan
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


class Spread(NamedTuple):
    """What a noisy machine gave for one figure over several rounds."""

    min: float
    median: float
    max: float

    def __str__(self) -> str:
        return f"{self.median:.0f} ({self.min:.0f}-{self.max:.0f})"


def spread(values: Sequence[float]) -> Spread:
    """Minimum, median (mean of the middle two) and maximum; nan if there is none."""
    if not values:
        return Spread(math.nan, math.nan, math.nan)
    ranked = sorted(values)
    middle = len(ranked) // 2
    median = ranked[middle] if len(ranked) % 2 else (ranked[middle - 1] + ranked[middle]) / 2
    return Spread(ranked[0], median, ranked[-1])
