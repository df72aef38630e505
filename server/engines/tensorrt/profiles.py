"""Optimization profiles of a TensorRT engine: which shapes it supports. Only reading them needs TensorRT."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from artifact.shapes import Profile, Shapes
from artifact.spec import ShapeRange
from server.errors import InvalidRequest


@dataclass(frozen=True)
class OptimizationProfile:
    """Shapes that one context may have, batch axis included. `fixed`: only the batch size is free."""

    index: int
    ranges: Profile
    fixed: bool

    @property
    def size(self) -> int:
        """Elements of all inputs at their largest."""
        return sum(math.prod(shapes.max) for shapes in self.ranges.values())

    def contains(self, shapes: Shapes) -> bool:
        """Whether every input's shape is within its range."""
        return all(within.contains(shapes.get(name, ())) for name, within in self.ranges.items())


def read_profiles(engine: Any, inputs: Sequence[str], batched: bool) -> tuple[OptimizationProfile, ...]:
    """The engine's profiles, narrowest first."""
    profiles = []
    for index in range(engine.num_optimization_profiles):
        ranges = {name: _range(engine, name, index) for name in inputs}
        start = 1 if batched else 0
        fixed = all(shapes.min[start:] == shapes.max[start:] for shapes in ranges.values())
        profiles.append(OptimizationProfile(index, ranges, fixed))
    return tuple(sorted(profiles, key=lambda profile: profile.size))


def narrowest(profiles: Sequence[OptimizationProfile], shapes: Shapes) -> OptimizationProfile:
    """The first profile that has `shapes`.

    Raises:
        InvalidRequest: none has.
    """
    for profile in profiles:
        if profile.contains(shapes):
            return profile
    received = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    supported = " or ".join(_text(profile) for profile in profiles)
    raise InvalidRequest(f"{received}: the engine supports {supported} (export --profile sets what it supports)")


def _range(engine: Any, name: str, profile: int) -> ShapeRange:
    shape = tuple(engine.get_tensor_shape(name))
    if min(shape, default=0) >= 0:
        return ShapeRange(shape, shape, shape)
    return ShapeRange(*(tuple(end) for end in engine.get_tensor_profile_shape(name, profile)))


def _text(profile: OptimizationProfile) -> str:
    return ", ".join(f"{name} [{_axes(shapes)}]" for name, shapes in profile.ranges.items())


def _axes(shapes: ShapeRange) -> str:
    ends = zip(shapes.min, shapes.max, strict=True)
    return ", ".join(str(low) if low == high else f"{low}..{high}" for low, high in ends)
