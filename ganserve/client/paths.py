"""Paths through a latent space: points between points, for animations."""

from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganserve.client.errors import InvalidRequest

Curve = Literal["lerp", "slerp", "cubic"]
CURVES: tuple[Curve, ...] = get_args(Curve)
# Of two directions that are nearly the same or opposite, the arc is not defined well enough.
_SMALL_ANGLE = 1e-4


def latents_of(seeds: Iterable[int], latent_size: int) -> NDArray[np.float32]:
    """The latents (n, latent_size) that a server makes of seeds."""
    rows = [np.random.RandomState(seed).randn(1, latent_size) for seed in seeds]
    return np.concatenate(rows).astype(np.float32)


def interpolate(keys: ArrayLike, frames: int, curve: Curve = "lerp", loop: bool = True) -> NDArray[np.float32]:
    """Points on a path through `keys`, which it reaches one after the other in equal steps.

    Args:
        keys: (n, ...): latents, w, or numbers such as strengths.
        frames: points of the whole path.
        curve: lerp: straight lines. slerp: arcs of circles around 0 whose radius changes evenly, for latents that are
            normally distributed. cubic: a Catmull-Rom spline, without corners, for w.
        loop: whether the path goes back to the first key; the last frame is then the one before it. Else it ends with
            the last key.

    Returns:
        (frames, ...).

    Raises:
        InvalidRequest: no keys, fewer frames than 1, or an unknown curve.
    """
    points = np.asarray(keys, np.float64)
    if points.ndim < 1 or not len(points) or frames < 1:
        raise InvalidRequest(f"a path needs at least one key and one frame, got {points.shape} and {frames}")
    if curve not in CURVES:
        raise InvalidRequest(f"curve must be one of {', '.join(CURVES)}, got {curve!r}")
    n = len(points)
    times = np.arange(frames) * (n / frames) if loop else np.linspace(0, n - 1, frames)
    found = [_point(points, float(time), curve, loop) for time in times]
    return np.stack(found).astype(np.float32)


def _point(keys: NDArray[np.float64], time: float, curve: Curve, loop: bool) -> NDArray[np.float64]:
    start = int(time)
    share = time - start
    if share == 0:
        return np.asarray(keys[start])
    before, one, other, after = (_key(keys, start + offset, loop) for offset in (-1, 0, 1, 2))
    if curve == "lerp":
        return one + share * (other - one)
    if curve == "slerp":
        return _arc(one, other, share)
    return one + 0.5 * share * (
        other - before
        + share * (2 * before - 5 * one + 4 * other - after + share * (3 * (one - other) + after - before))
    )  # fmt: skip


def _key(keys: NDArray[np.float64], index: int, loop: bool) -> NDArray[np.float64]:
    n = len(keys)
    return np.asarray(keys[index % n if loop else min(max(index, 0), n - 1)])


def _arc(one: NDArray[np.float64], other: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    lengths = np.linalg.norm(one), np.linalg.norm(other)
    if not all(lengths):
        return one + share * (other - one)
    units = one / lengths[0], other / lengths[1]
    angle = np.arccos(np.clip(np.sum(units[0] * units[1]), -1, 1))
    if angle < _SMALL_ANGLE or np.pi - angle < _SMALL_ANGLE:
        return one + share * (other - one)
    on_circle = (np.sin((1 - share) * angle) * units[0] + np.sin(share * angle) * units[1]) / np.sin(angle)
    return np.asarray(on_circle * (lengths[0] + share * (lengths[1] - lengths[0])))
