"""Optimisation profiles of a TensorRT engine: which shapes it takes. Pure, but for reading them from the engine."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from artifact.spec import ShapeRange
from server.errors import InvalidRequest

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Profile:
    """Shapes that one context may have, batch axis included. `fixed`: nothing but the number of rows is free."""

    index: int
    ranges: Mapping[str, ShapeRange]
    fixed: bool

    @property
    def largest(self) -> Shapes:
        """The largest shape of each input."""
        return {name: shapes.max for name, shapes in self.ranges.items()}

    @property
    def size(self) -> int:
        """Elements of all inputs at their largest."""
        return sum(math.prod(shape) for shape in self.largest.values())

    def takes(self, shapes: Shapes) -> bool:
        """Whether every input's shape lies within."""
        return all(within.takes(shapes.get(name, ())) for name, within in self.ranges.items())


def read_profiles(engine: Any, inputs: Sequence[str], batched: bool) -> tuple[Profile, ...]:
    """The engine's profiles, narrowest first."""
    profiles = []
    for index in range(engine.num_optimization_profiles):
        ranges = {name: _range(engine, name, index) for name in inputs}
        start = 1 if batched else 0
        fixed = all(shapes.min[start:] == shapes.max[start:] for shapes in ranges.values())
        profiles.append(Profile(index, ranges, fixed))
    return tuple(sorted(profiles, key=lambda profile: profile.size))


def narrowest(profiles: Sequence[Profile], shapes: Shapes) -> Profile:
    """The first profile that takes `shapes`.

    Raises:
        InvalidRequest: none does.
    """
    for profile in profiles:
        if profile.takes(shapes):
            return profile
    asked = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    taken = " or ".join(_words(profile) for profile in profiles)
    raise InvalidRequest(f"{asked}: the engine takes {taken} (export --profile sets what it takes)")


def _range(engine: Any, name: str, profile: int) -> ShapeRange:
    shape = tuple(engine.get_tensor_shape(name))
    if min(shape, default=0) >= 0:
        return ShapeRange(shape, shape, shape)
    least, best, most = (tuple(end) for end in engine.get_tensor_profile_shape(name, profile))
    return ShapeRange(least, best, most)


def _words(profile: Profile) -> str:
    return ", ".join(f"{name} [{_axes(shapes)}]" for name, shapes in profile.ranges.items())


def _axes(shapes: ShapeRange) -> str:
    ends = zip(shapes.min, shapes.max, strict=True)
    return ", ".join(str(low) if low == high else f"{low}..{high}" for low, high in ends)
