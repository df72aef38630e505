"""Rows of an image on their way to the caller, top to bottom: kept as they are, or resampled to another size first.

Only a few rows are held at a time, so that an image of another size than the network gives needs no memory for the
network's.
"""

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from server.images.workers import check_time

Pixels = NDArray[Any]
"""(H, W, C) uint8 or uint16."""

Filter = Image.Resampling
LANCZOS, AREA = Filter.LANCZOS, Filter.BOX

# Rows that are resampled together. Each strip begins at a multiple of it, whichever rows come together, so that the
# result does not depend on how the image was cut.
STRIP_ROWS = 64
# Resampled in one call of Pillow, which nothing can stop: a tenth of a second.
PIECE_PX = 1 << 21
# Of Lanczos, in pixels of the smaller image.
_RADIUS = 3


class Rows(Protocol):
    """Where the rows of an image go."""

    def space(self, top: int, bottom: int) -> Pixels | None:
        """Where rows `top`..`bottom`-1 may be put before they are written; None: nowhere."""

    def write(self, rows: Pixels) -> None:
        """Takes the next rows, (h, W, C)."""


class Canvas:
    """The whole image in memory."""

    def __init__(self, shape: tuple[int, int, int], dtype: Any) -> None:
        self.pixels: Pixels = np.empty(shape, dtype)
        self._written = 0

    def space(self, top: int, bottom: int) -> Pixels:
        """The place itself: what is put there need not be copied."""
        return self.pixels[top:bottom]

    def write(self, rows: Pixels) -> None:
        """Copies the rows, unless they were put in their place."""
        place = self.pixels[self._written : self._written + len(rows)]
        if not np.may_share_memory(place, rows):
            place[:] = rows
        self._written += len(rows)


class Resampler:
    """Rows of (H, W, C) -> rows of another size, by Lanczos of three lobes, or by area; channels each by itself."""

    def __init__(self, shape: tuple[int, ...], height: int, width: int, rows: Rows, by: Filter = LANCZOS) -> None:
        """`shape`: of what comes in; `rows`: where what goes out goes."""
        self._by = by
        self._height = shape[0]
        self._rows_first = width * shape[0] > shape[1] * height
        self._out_height, self._out_width = height, width
        self._rows = rows
        self._step = self._height / height
        self._reach = _reach(self._step)
        self._held: list[Pixels] = []
        self._first = self._end = 0  # rows that are held
        self._done = 0  # rows that have left

    def space(self, top: int, bottom: int) -> None:
        """Nowhere."""
        return

    def write(self, rows: Pixels) -> None:
        """Takes rows, and passes on what can be computed from them."""
        self._held.append(rows)
        self._end += len(rows)
        while self._done < self._out_height:
            until = min(self._out_height, self._done + STRIP_ROWS)
            low, high = self._needed(self._done, until)
            if high > self._end:
                break
            check_time()
            self._forget(low)
            source = self._held[0] if len(self._held) == 1 else np.concatenate(self._held)
            self._held = [source]
            box = (0.0, self._done * self._step - self._first, float(source.shape[1]), until * self._step - self._first)
            box = (*box[:3], min(box[3], float(len(source))))
            source = source[: high - self._first]
            self._rows.write(resize(source, self._out_width, until - self._done, box, self._rows_first, self._by))
            self._done = until

    def _needed(self, top: int, bottom: int) -> tuple[int, int]:
        """The rows that come in from which rows `top`..`bottom`-1 are computed."""
        low = math.floor(top * self._step) - self._reach
        high = math.ceil(bottom * self._step) + self._reach
        return max(0, low), min(self._height, high)

    def _forget(self, low: int) -> None:
        while self._held and self._first + len(self._held[0]) <= low:
            self._first += len(self._held.pop(0))
        if self._held and low > self._first:
            self._held[0] = self._held[0][low - self._first :]
            self._first = low


def _reach(step: float) -> int:
    """Rows that count beyond those that a row is made of; `step`: rows that come in for each that goes out."""
    return math.ceil(_RADIUS * max(1.0, step)) + 1


def rows_for_strip(height: int, out_height: int) -> int:
    """Rows that come in from which a strip is computed, at most."""
    step = height / out_height
    return math.ceil(STRIP_ROWS * step) + 2 * _reach(step) + 1


def resize(
    pixels: Pixels,
    width: int,
    height: int,
    box: tuple[float, float, float, float] | None = None,
    rows_first: bool = False,
    by: Filter = LANCZOS,
) -> Pixels:
    """(H, W, C) at another size. `box`: the rows of it that become the result, (0, top, W, bottom) in px;
    what lies around them counts at their edges. `rows_first`: they become fewer before they become longer."""
    if box is None and (height, width) == pixels.shape[:2]:
        return pixels
    parts = [_resize(image, width, height, box, rows_first, by) for image in _images(pixels)]
    planes = [np.asarray(part).reshape(height, width, -1) for part in parts]
    found: Pixels = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
    if pixels.dtype == np.uint16:
        found = np.clip(np.rint(found), 0, 65535).astype(np.uint16)
    return found


def _resize(
    image: Image.Image,
    width: int,
    height: int,
    box: tuple[float, float, float, float] | None,
    rows_first: bool,
    by: Filter,
) -> Image.Image:
    """One side after the other. Pillow would choose the order, by its version and for each strip anew: what is cut off
    between the two differs, and so does the memory, by the image's height."""
    if rows_first:
        return _row_by_row(_column_by_column(image, height, box, by), width, by)
    return _column_by_column(_row_by_row(image, width, by), height, box, by)


def _row_by_row(image: Image.Image, width: int, by: Filter) -> Image.Image:
    """The image at another width, in pieces between which the time is looked at."""
    if width == image.width:
        return image
    found = Image.new(image.mode, (width, image.height))
    rows = max(1, PIECE_PX // max(width, image.width))
    for top in range(0, image.height, rows):
        check_time()
        bottom = min(image.height, top + rows)
        piece = image.crop((0, top, image.width, bottom))
        found.paste(piece.resize((width, bottom - top), by), (0, top))
    return found


def _column_by_column(
    image: Image.Image, height: int, box: tuple[float, float, float, float] | None, by: Filter
) -> Image.Image:
    """The image's rows of `box` at another height, likewise."""
    found = Image.new(image.mode, (image.width, height))
    columns = max(1, PIECE_PX // max(height, image.height))
    for left in range(0, image.width, columns):
        check_time()
        right = min(image.width, left + columns)
        piece = image.crop((left, 0, right, image.height))
        rows = box and (0.0, box[1], float(right - left), box[3])
        found.paste(piece.resize((right - left, height), by, rows), (left, 0))
    return found


def _images(pixels: Pixels) -> Iterator[Image.Image]:
    """The channels as Pillow resamples them: three of 8 bits together; alpha apart, since Pillow would weigh colours by
    it, and what it hides has been given the colours around it."""
    channels = pixels.shape[2]
    if pixels.dtype == np.uint16:
        yield from (Image.fromarray(pixels[..., c].astype(np.float32)) for c in range(channels))
        return
    if channels >= 3:
        yield Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    for c in range(channels) if channels < 3 else range(3, channels):
        yield Image.fromarray(np.ascontiguousarray(pixels[..., c]))
