"""When calls of an open loop arrive: decided before the run, so that a slow server cannot slow its own load down."""

from typing import Literal

import numpy as np

Pacing = Literal["fixed", "poisson"]


def schedule(rate_per_s: float, seconds: float, pacing: Pacing, *, seed: int = 0) -> list[float]:
    """Arrival times in seconds from the start, ascending, all below `seconds`, on average `rate_per_s` a second.

    `fixed`: equal gaps, the first call at 0. `poisson`: independent exponential gaps, the same ones for the same seed.
    """
    if rate_per_s <= 0 or seconds <= 0:
        return []
    if pacing == "fixed":
        return [float(n) / rate_per_s for n in range(int(np.ceil(rate_per_s * seconds)))]
    random = np.random.default_rng(seed)
    expected = rate_per_s * seconds
    gaps = random.exponential(1 / rate_per_s, size=int(expected + 10 * np.sqrt(expected) + 10))
    times = np.cumsum(gaps)
    return [float(time_s) for time_s in times[times < seconds]]
