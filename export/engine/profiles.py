"""Optimization profiles: the shapes that a TensorRT engine is built for. Neither torch nor TensorRT is needed here.

`min,opt,max[:SIZE,...]` gives batch sizes and, for networks whose images have free sizes, those sizes. A SIZE is `HxW`,
one size with a profile to itself, or `HxW-HxW`, a range, tuned for its largest.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from artifact.shapes import ANY_SIZE, Profile, Sides, has_free_sizes, served_shapes
from artifact.spec import ShapeRange, TensorSpec
from export.errors import ExportError

Size: TypeAlias = tuple[int, int]
"""(H, W) in pixels."""
SizeRange: TypeAlias = tuple[Size, Size, Size]
"""min, opt, max."""

EXPECTED = "expected min,opt,max[:HxW or HxW-HxW,...], as in 1,8,8:64x64,128x128-512x512"
BATCHES = re.compile(r"(\d{1,6}),(\d{1,6}),(\d{1,6})", re.ASCII)
SIZES = re.compile(r"(\d{1,6})x(\d{1,6})(?:-(\d{1,6})x(\d{1,6}))?", re.ASCII)


@dataclass(frozen=True)
class NetworkShapes:
    """The shapes that a network accepts: its inputs with free axes (H, then W) as -1, and the sizes of its images."""

    inputs: tuple[TensorSpec, ...]
    max_batch_size: int
    sides: Sides = ANY_SIZE


def parse_profiles(options: Sequence[str], network: NetworkShapes) -> tuple[Profile, ...]:
    """The profiles that the `--profile` options describe, in their order; without any, the default for the network.

    Raises:
        ExportError: not written as expected, not what the network accepts, or a batch size between 1 and the largest
            has no profile.
    """
    found: list[Profile] = []
    for text in options:
        batches, sizes = _parse(text, network)
        found += [_profile(network, batches, size) for size in sizes]
    largest_batch(found := found or [*default_profiles(network)])
    return tuple(found)


def default_profiles(network: NetworkShapes) -> tuple[Profile, ...]:
    """Every batch that the server forms of every image it sends; see `served_shapes`."""
    return (served_shapes(network.inputs, network.sides, network.max_batch_size),)


def largest_batch(profiles: Sequence[Profile]) -> int:
    """The largest batch that can be run at every image size: `max_batch_size` of the model's config.

    Raises:
        ExportError: some batch below the largest has no profile.
    """
    return min(_largest_at(profile, profiles) for profile in profiles)


def profile_text(profile: Profile, inputs: Sequence[TensorSpec]) -> str:
    """The profile as a `--profile` option, followed by the size it is tuned for if that is not its largest."""
    text = _batch_text(profile)
    for tensor in inputs:
        if -1 not in tensor.shape or tensor.name not in profile:
            continue
        shapes = profile[tensor.name]
        smallest, tuned, largest = (_size_text(tensor, shape) for shape in (shapes.min, shapes.opt, shapes.max))
        text += f":{smallest}" if smallest == largest else f":{smallest}-{largest}"
        text += "" if tuned == largest else f" (tuned for {tuned})"
    return text


def _batch_text(profile: Profile) -> str:
    shapes = next(iter(profile.values()))
    return ",".join(str(shape[0]) for shape in (shapes.min, shapes.opt, shapes.max))


def _size_text(tensor: TensorSpec, shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for axis, size in zip(tensor.shape, shape[1:], strict=True) if axis < 0)


def _largest_at(profile: Profile, profiles: Sequence[Profile]) -> int:
    """The largest batch of images with the sizes of `profile`, in any profile that accepts all of these sizes."""
    reached = 0
    for smallest, largest in sorted(_batch_range(other) for other in profiles if _covers(other, profile)):
        if smallest > reached + 1:
            missing = str(reached + 1) if smallest == reached + 2 else f"{reached + 1} to {smallest - 1}"
            raise ExportError(
                f"--profile {_batch_text(profile)}: no profile accepts a batch of {missing}; "
                "the server forms every size from 1 to the largest"
            )
        reached = max(reached, largest)
    return reached


def _covers(wide: Profile, narrow: Profile) -> bool:
    return all(
        ShapeRange(wide[name].min[1:], (), wide[name].max[1:]).contains(end)
        for name, shapes in narrow.items()
        for end in (shapes.min[1:], shapes.max[1:])
    )


def _batch_range(profile: Profile) -> tuple[int, int]:
    return max(shapes.min[0] for shapes in profile.values()), min(shapes.max[0] for shapes in profile.values())


def _profile(network: NetworkShapes, batches: Sequence[int], sizes: SizeRange) -> Profile:
    def shape(tensor: TensorSpec, batch: int, size: Size) -> tuple[int, ...]:
        free = iter(size)
        return (batch, *(next(free) if axis < 0 else axis for axis in tensor.shape))

    return {
        tensor.name: ShapeRange(*(shape(tensor, batch, size) for batch, size in zip(batches, sizes, strict=True)))
        for tensor in network.inputs
    }


def _parse(text: str, network: NetworkShapes) -> tuple[tuple[int, int, int], list[SizeRange]]:
    """(min, opt and max of the batch, one range of sizes per profile) of a `--profile` option."""
    batch, colon, sizes = text.replace(" ", "").partition(":")
    batches = BATCHES.fullmatch(batch)
    if batches is None or (colon and not sizes):
        raise ExportError(f"--profile {text}: {EXPECTED}")
    smallest, tuned, largest = (int(number) for number in batches.groups())
    if not 1 <= smallest <= tuned <= largest:
        raise ExportError(f"--profile {text}: {batch} is not min <= opt <= max with a min of 1 or more")
    if not colon:
        sides = network.sides
        default = (sides.min_px, sides.min_px), (sides.opt_px, sides.opt_px), (sides.max_px, sides.max_px)
        return (smallest, tuned, largest), [default]
    if not has_free_sizes(network.inputs):
        raise ExportError(f"--profile {text}: the network's images have a fixed size; leave out :{sizes}")
    return (smallest, tuned, largest), list(_parse_sizes(text, sizes, network.sides))


def _parse_sizes(text: str, sizes: str, sides: Sides) -> Iterator[SizeRange]:
    for part in sizes.split(","):
        found = SIZES.fullmatch(part)
        if found is None:
            raise ExportError(f"--profile {text}: {part!r} is not a size; {EXPECTED}")
        height, width = int(found[1]), int(found[2])
        largest = (int(found[3]), int(found[4])) if found[3] else (height, width)
        if largest[0] < height or largest[1] < width:
            raise ExportError(f"--profile {text}: in {part} the largest size is below the smallest")
        for size in (height, width, *largest):
            _require_supported(text, size, sides)
        yield (height, width), largest, largest


def _require_supported(text: str, size: int, sides: Sides) -> None:
    if size < sides.min_px:
        raise ExportError(f"--profile {text}: {size} px, the network accepts {sides.min_px} px or more")
    if size % sides.multiple_px:
        raise ExportError(f"--profile {text}: {size} px, the network accepts multiples of {sides.multiple_px} px")
