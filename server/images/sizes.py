"""How large an upscaled image shall be, and how often it goes through the network to get there.

The network enlarges by its factor, again while that is too small by more than a quarter; what is left, up or down, is
resampled. So the image between two passes never has more pixels than the one that is returned, and the last pass, which
may have many more, is resampled strip by strip as its tiles come (`server.images.bands`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from artifact.spec import Spec
from server.errors import InvalidRequest
from server.images.channels import ChannelPlan, plan_upscale
from server.images.header import Format, Header
from server.images.rows import AREA, LANCZOS, Filter

# Beyond what the network gives, an image is enlarged so many times by resampling alone; a further pass computes at
# least as many pixels again as the network's factor squared.
STRETCH = 1.25
_NEARLY = 1 - 1e-9  # sides are rounded


class Resample(StrEnum):
    """How what the network gives is brought to the size."""

    LANCZOS = "lanczos"
    AREA = "area"  # only to a smaller one


_FILTERS = {Resample.LANCZOS: LANCZOS, Resample.AREA: AREA}


class Fit(StrEnum):
    """What becomes of an image whose sides have another ratio than `width` and `height`."""

    CONTAIN = "contain"  # it is made to fit into them
    COVER = "cover"  # it covers them, and what is beyond is cut off at both sides
    FILL = "fill"  # it is stretched


@dataclass(frozen=True)
class Size:
    """The size that a request asks for: by `scale`, or by one or both sides in px; 0 is not given. Nothing given: the
    network's own scale."""

    scale: float = 0.0
    width: int = 0
    height: int = 0
    fit: Fit | None = None  # None: not given
    resample: Resample | None = None  # None: not given, Lanczos

    @property
    def is_native(self) -> bool:
        """Whether no size is given."""
        return not (self.scale or self.width or self.height or self.fit)


@dataclass(frozen=True)
class Crop:
    """A part of an image, px."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class TransformPlan:
    """How an image goes through a network: the part of it that does, once or several times, and the size at the end."""

    header: Header  # as sent
    crop: Crop | None
    passes: tuple[ChannelPlan, ...]
    height: int
    width: int
    resampled_by: Filter = LANCZOS

    @property
    def channels(self) -> int:
        """Of the image that is returned."""
        return self.passes[-1].channels

    @property
    def turns(self) -> int:
        """In how many ways each tile is run."""
        return self.passes[-1].turns

    @property
    def bits(self) -> int:
        """Of each of its samples."""
        return self.passes[-1].bits

    @property
    def nbytes(self) -> int:
        """Of its pixels."""
        return self.height * self.width * self.channels * self.bits // 8

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the image that is returned."""
        return self.height, self.width, self.channels

    @property
    def largest_px(self) -> int:
        """Pixels of the image where it has most of them: as it is returned, or as the network gives it."""
        return max(self.width * self.height, *(each.width * each.height for each in self.passes))

    @property
    def is_resampled(self) -> bool:
        """Whether it has another size than the network gives."""
        return (self.height, self.width) != self.passes[-1].shape[:2]

    @property
    def tiles(self) -> int:
        """That the engine runs at most."""
        return sum(each.tiles for each in self.passes)

    @property
    def input_bytes(self) -> int:
        """Of all of them."""
        return sum(each.tiles * each.tile_bytes for each in self.passes)


def in_one_pass(plan: ChannelPlan) -> TransformPlan:
    """At the network's own scale."""
    return TransformPlan(plan.header, None, (plan,), plan.height, plan.width)


def plan_sized_upscale(
    spec: Spec, header: Header, keeps_alpha: bool, bits: int, size: Size, check: Callable[[int, int], None]
) -> TransformPlan:
    """The plan for super-resolution to a size. `check`: refuses a width and height that are too large, before the tiles
    for them are laid out.

    Raises:
        InvalidRequest: see `plan_upscale`; sizes that contradict each other.
        ImageTooLarge: `check` does.
    """
    if size.is_native:
        if size.resample is not None:
            raise InvalidRequest(
                f"resample: {size.resample} given, but the network's own size is returned; set scale, width or height"
            )
        return in_one_pass(plan_upscale(spec, header, keeps_alpha, bits))
    crop, width, height = _target(size, header.width, header.height)
    check(width, height)
    used = header if crop is None else replace(header, width=crop.width, height=crop.height)
    ratio = math.sqrt(width * height / (used.width * used.height))
    passes: list[ChannelPlan] = []
    by_area = size.resample is Resample.AREA
    for _ in range(_passes(spec.scale, ratio, 1.0 if by_area else STRETCH)):
        passes.append(plan_upscale(spec, used, keeps_alpha, bits))
        used = Header(Format.RAW, passes[-1].width, passes[-1].height, passes[-1].channels)
    last = passes[-1]
    if by_area and (width > last.width or height > last.height):
        raise InvalidRequest(
            f"resample: AREA makes images smaller, but the network gives {last.width} x {last.height} px and {width} x "
            f"{height} are to be returned; use LANCZOS"
        )
    return TransformPlan(header, crop, tuple(passes), height, width, _FILTERS[size.resample or Resample.LANCZOS])


def _passes(factor: int, ratio: float, stretch: float) -> int:
    """How often a network of that factor enlarges an image for sides `ratio` times as long, if what is left may be
    `stretch`."""
    reached, passes = float(factor), 1
    while factor > 1 and reached * stretch < ratio * _NEARLY:
        reached, passes = reached * factor, passes + 1
    return passes


def _target(size: Size, width: int, height: int) -> tuple[Crop | None, int, int]:
    """The part of an image of `width` x `height` that is wanted, and the width and height that it shall have."""
    if size.fit is not None and not (size.width and size.height):
        raise InvalidRequest(f"fit: {size.fit} given; it needs both width and height")
    if size.scale:
        if size.width or size.height:
            raise InvalidRequest(f"scale: {size.scale:g} given with width or height; set one of them")
        if not (math.isfinite(size.scale) and size.scale > 0):
            raise InvalidRequest(f"scale: {size.scale:g}; must be a number above 0")
        return None, _whole(width * size.scale), _whole(height * size.scale)
    if not (size.width and size.height):
        ratio = size.width / width if size.width else size.height / height
        return None, size.width or _whole(width * ratio), size.height or _whole(height * ratio)
    if size.fit is Fit.FILL:
        return None, size.width, size.height
    if size.fit is Fit.COVER:
        return crop_of(size, width, height), size.width, size.height
    ratio = min(size.width / width, size.height / height)
    return None, min(size.width, _whole(width * ratio)), min(size.height, _whole(height * ratio))


def crop_of(size: Size, width: int, height: int) -> Crop | None:
    """The middle part of an image of `width` x `height` that has the ratio of both sides of `size`; None: all of it."""
    ratio = max(size.width / width, size.height / height)
    kept_width, kept_height = min(width, _whole(size.width / ratio)), min(height, _whole(size.height / ratio))
    if (kept_width, kept_height) == (width, height):
        return None
    return Crop((height - kept_height) // 2, (width - kept_width) // 2, kept_height, kept_width)


def with_longer_side(shape: tuple[int, int, int], size: int) -> tuple[int, int, int]:
    """(H, W, C) of an image whose longer side is to have `size` px; 0: of the image as it is."""
    height, width, channels = shape
    if not size:
        return shape
    ratio = size / max(height, width)
    return _whole(height * ratio), _whole(width * ratio), channels


def _whole(px: float) -> int:
    """Rounded half up, one at least."""
    return max(1, math.floor(min(px, 2.0**31) + 0.5))
