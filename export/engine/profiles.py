"""Optimization profiles: the shapes that a TensorRT engine is built for. Neither torch nor TensorRT is needed here.

`min,opt,max[:SIZE,...]` gives rows in a batch and, for networks whose pictures have free sizes, those sizes. A SIZE is
`HxW`, one size with a profile to itself, or `HxW-HxW`, a range, tuned for its largest.
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
Range: TypeAlias = tuple[Size, Size, Size]
"""Least, the one it is tuned for, largest."""

EXPECTED = "expected min,opt,max[:HxW or HxW-HxW,...], as in 1,8,8:64x64,128x128-512x512"
BATCHES = re.compile(r"(\d{1,6}),(\d{1,6}),(\d{1,6})", re.ASCII)
SIZES = re.compile(r"(\d{1,6})x(\d{1,6})(?:-(\d{1,6})x(\d{1,6}))?", re.ASCII)


@dataclass(frozen=True)
class Taken:
    """What a network takes: its inputs with free axes (H, then W) as -1, and the sizes of its images."""

    inputs: tuple[TensorSpec, ...]
    max_batch_size: int
    sides: Sides = ANY_SIZE


def profiles_of(asked: Sequence[str], taken: Taken) -> tuple[Profile, ...]:
    """The profiles that the `--profile` options ask for, in their order; without any, one that fits the network.

    Raises:
        ExportError: not written as expected, not what the network takes, or a batch size between 1 and the largest has
            no profile.
    """
    found: list[Profile] = []
    for text in asked:
        batches, sizes = _read(text, taken)
        found += [_profile(taken, batches, size) for size in sizes]
    largest_batch(found := found or [*default_profiles(taken)])
    return tuple(found)


def default_profiles(taken: Taken) -> tuple[Profile, ...]:
    """Every batch that the server forms of every image it sends; see `served_shapes`."""
    return (served_shapes(taken.inputs, taken.sides, taken.max_batch_size),)


def largest_batch(profiles: Sequence[Profile]) -> int:
    """The largest batch that can be run whatever size its pictures have: `max_batch_size` of the model's config.

    Raises:
        ExportError: some batch below the largest has no profile.
    """
    return min(_largest_at(profile, profiles) for profile in profiles)


def in_words(profile: Profile, inputs: Sequence[TensorSpec]) -> str:
    """The profile as `--profile` would write it, with what it is tuned for where that is not its largest size."""
    words = _rows(profile)
    for tensor in inputs:
        if -1 not in tensor.shape or tensor.name not in profile:
            continue
        shapes = profile[tensor.name]
        least, best, most = (_size(tensor, shape) for shape in (shapes.min, shapes.opt, shapes.max))
        words += f":{least}" if least == most else f":{least}-{most}"
        words += "" if best == most else f" (tuned for {best})"
    return words


def _rows(profile: Profile) -> str:
    shapes = next(iter(profile.values()))
    return ",".join(str(shape[0]) for shape in (shapes.min, shapes.opt, shapes.max))


def _size(tensor: TensorSpec, shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for axis, size in zip(tensor.shape, shape[1:], strict=True) if axis < 0)


def _largest_at(profile: Profile, profiles: Sequence[Profile]) -> int:
    """The largest batch of pictures with the sizes of `profile`, in any profile that takes all of them."""
    batches = sorted(_batches(other) for other in profiles if _covers(other, profile))
    reached = 0
    for least, most in batches:
        if least > reached + 1:
            missing = str(reached + 1) if least == reached + 2 else f"{reached + 1} to {least - 1}"
            raise ExportError(
                f"--profile {_rows(profile)}: no profile takes a batch of {missing}; "
                "the server forms every size from 1 to the largest"
            )
        reached = max(reached, most)
    return reached


def _covers(wide: Profile, narrow: Profile) -> bool:
    return all(
        ShapeRange(wide[name].min[1:], (), wide[name].max[1:]).contains(end)
        for name, shapes in narrow.items()
        for end in (shapes.min[1:], shapes.max[1:])
    )


def _batches(profile: Profile) -> tuple[int, int]:
    return max(shapes.min[0] for shapes in profile.values()), min(shapes.max[0] for shapes in profile.values())


def _profile(taken: Taken, batches: Sequence[int], sizes: Sequence[Size]) -> Profile:
    def shape(tensor: TensorSpec, rows: int, size: Size) -> tuple[int, ...]:
        free = iter(size)
        return (rows, *(next(free) if axis < 0 else axis for axis in tensor.shape))

    return {
        tensor.name: ShapeRange(*(shape(tensor, rows, size) for rows, size in zip(batches, sizes, strict=True)))
        for tensor in taken.inputs
    }


def _default_sizes(taken: Taken) -> Range:
    sides = taken.sides
    return (sides.min_px, sides.min_px), (sides.opt_px, sides.opt_px), (sides.max_px, sides.max_px)


def _read(text: str, taken: Taken) -> tuple[tuple[int, int, int], list[Range]]:
    rows, colon, sizes = text.replace(" ", "").partition(":")
    batches = BATCHES.fullmatch(rows)
    if batches is None or (colon and not sizes):
        raise ExportError(f"--profile {text}: {EXPECTED}")
    least, best, most = (int(number) for number in batches.groups())
    if not 1 <= least <= best <= most:
        raise ExportError(f"--profile {text}: {least},{best},{most} is not min <= opt <= max with a min of 1 or more")
    if colon and not has_free_sizes(taken.inputs):
        raise ExportError(f"--profile {text}: the network's pictures have one size; leave out :{sizes}")
    ranges = list(_ranges(text, sizes, taken)) if colon else [_default_sizes(taken)]
    return (least, best, most), ranges


def _ranges(text: str, sizes: str, taken: Taken) -> Iterator[Range]:
    for part in sizes.split(","):
        found = SIZES.fullmatch(part)
        if found is None:
            raise ExportError(f"--profile {text}: {part!r} is no size; {EXPECTED}")
        height, width = int(found[1]), int(found[2])
        largest = (int(found[3]), int(found[4])) if found[3] else (height, width)
        if largest[0] < height or largest[1] < width:
            raise ExportError(f"--profile {text}: {part} ends below where it begins")
        for size in (height, width, *largest):
            _require_taken(text, size, taken)
        yield (height, width), largest, largest


def _require_taken(text: str, size: int, taken: Taken) -> None:
    sides = taken.sides
    if size < sides.min_px:
        raise ExportError(f"--profile {text}: {size} px, the network takes {sides.min_px} px or more")
    if size % sides.multiple_px:
        raise ExportError(f"--profile {text}: {size} px, the network takes multiples of {sides.multiple_px} px")
