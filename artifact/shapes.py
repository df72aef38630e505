"""Which shapes the server runs a model at: what it warms and what TensorRT engines are built for must agree.

Axes of free size (-1) are heights and widths of images. Networks that are run in tiles get tiles of every size up to
the largest, since a smaller image is one smaller tile; the others get images whole, padded to a size that they support.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from artifact.spec import ShapeRange, Spec, TensorSpec

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""A shape for each input, by name."""
Profile: TypeAlias = Mapping[str, ShapeRange]
"""A range of shapes for each input, by name, batch axis included."""

Ints: TypeAlias = tuple[int, ...]

# Images that are transformed whole: the largest side that engines are built for by default, and the one to tune for.
WHOLE_MAX_PX = 512
WHOLE_OPT_PX = 256


def round_up(size: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not below `size`."""
    return -(-size // multiple) * multiple


@dataclass(frozen=True)
class Sides:
    """Heights and widths that a network of free sizes runs at: multiples of `multiple_px`, `least_px` or more.

    `tile_px`: largest side of the tiles that larger images are cut into, None if images are run whole.
    """

    multiple_px: int = 1
    least_px: int = 1
    tile_px: int | None = None

    @staticmethod
    def of(spec: Spec | None) -> "Sides":
        """Those of a served model; without a manifest, any."""
        if spec is None:
            return ANY_SIZE
        if spec.tile is None:
            return Sides(spec.multiple_px, spec.least_px)
        return Sides(spec.tile.multiple_px, spec.least_px, spec.tile.size_px)

    def fit(self, px: int) -> int:
        """The side that an image of `px` is padded to."""
        return round_up(max(px, self.least_px, 1), self.multiple_px)

    @property
    def min_px(self) -> int:
        """The smallest."""
        return self.fit(1)

    @property
    def max_px(self) -> int:
        """The largest tile's; for images that are run whole, the largest that engines are built for by default."""
        return max(self.min_px, (self.tile_px or WHOLE_MAX_PX) // self.multiple_px * self.multiple_px)

    @property
    def opt_px(self) -> int:
        """The one to tune engines for."""
        return self.max_px if self.tile_px else min(self.max_px, self.fit(WHOLE_OPT_PX))


ANY_SIZE = Sides()


def has_free_sizes(inputs: Sequence[TensorSpec]) -> bool:
    """Whether images of any size go in."""
    return any(-1 in tensor.shape for tensor in inputs)


def sized(tensor: TensorSpec, side_px: int) -> tuple[int, ...]:
    """The shape of one item, without the batch axis, with every free axis at `side_px`."""
    return tuple(side_px if axis < 0 else axis for axis in tensor.shape)


def served_shapes(inputs: Sequence[TensorSpec], sides: Sides, max_batch_size: int) -> Profile:
    """Every batch that the server forms of every image that it sends, tuned for full batches.

    `max_batch_size`: 0 for a graph without a batch axis.
    """

    def shape(tensor: TensorSpec, batch_size: int, side_px: int) -> tuple[int, ...]:
        return ((batch_size,) if max_batch_size else ()) + sized(tensor, side_px)

    return {
        tensor.name: ShapeRange(
            min=shape(tensor, 1, sides.min_px),
            opt=shape(tensor, max_batch_size, sides.opt_px),
            max=shape(tensor, max_batch_size, sides.max_px),
        )
        for tensor in inputs
    }


def tile_sizes(spec: Spec) -> tuple[ShapeRange, ...]:
    """The (H, W) that a model's tiles may have: those of its TensorRT engine's profiles, else any up to the largest.

    An axis that has a fixed size in the graph leaves no choice.
    """
    image, sides = spec.inputs[0], Sides.of(spec)
    low, high = sized(image, sides.multiple_px)[:2], sized(image, sides.max_px)[:2]
    if spec.plan is None:
        return (ShapeRange(low, high, high),)
    profiles = [profile[image.name] for profile in spec.plan.profiles if image.name in profile]
    return tuple(_within(low, high, shapes.min[-3:-1], shapes.max[-3:-1]) for shapes in profiles)


def _within(low: Ints, high: Ints, first: Ints, last: Ints) -> ShapeRange:
    """The sizes that are `low` to `high` and also `first` to `last`."""
    largest = tuple(map(min, high, last))
    return ShapeRange(tuple(map(max, low, first)), largest, largest)
