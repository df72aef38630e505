"""Cut-outs: images of which alpha hides a part.

A network looks at the neighbours of each pixel, so that black under the transparent part would come back as a dark line
along the edge: the colours of the visible pixels are spread over it first. And it gives back flat areas with an error
of a few levels: where alpha is even, what was opaque stays opaque, and what was transparent stays so.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.images.workers import check_time

# Pixels of less alpha are hidden: what little of their colour is seen may be any.
SEEN_ALPHA = 8
# How far colours are spread; beyond it, networks weigh a pixel next to nothing.
REACH_PX = 64
# Pixels that are filled at once: bounds temporary arrays.
_CHUNK = 1 << 16


def spread_colours(colours: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """`colours` (H, W, C) with new ones where `alpha` (H, W, 1) is below SEEN_ALPHA; visible pixels stay as they are.

    Colours grow from the visible pixels outward, ring by ring: each pixel becomes the mean of its neighbours that have
    a colour already. Beyond REACH_PX it is the mean of all that is visible. An image without hidden or without visible
    pixels is returned as it is.

    Raises:
        ImageTooLarge, Left: see `server.images.workers.check_time`.
    """
    hidden = alpha[..., 0] < (SEEN_ALPHA if alpha.dtype == np.uint8 else SEEN_ALPHA << 8)
    if hidden.all():
        hidden = alpha[..., 0] == 0
    if hidden.all() or not hidden.any():
        return colours
    height, width, channels = colours.shape
    # A border of one pixel, neither coloured nor to be filled: every pixel has eight neighbours.
    values = np.zeros((height + 2, width + 2, channels), colours.dtype)
    coloured, empty = np.zeros((2, height + 2, width + 2), np.bool_)
    inner = np.s_[1:-1, 1:-1]
    values[inner], empty[inner] = colours, hidden
    np.logical_not(hidden, out=coloured[inner])
    mean = [np.mean(colours[..., c], where=~hidden) for c in range(channels)]
    _fill(values.reshape(-1, channels), coloured.reshape(-1), empty.reshape(-1), width + 2)
    np.copyto(values, np.rint(mean).astype(colours.dtype), where=empty[..., None])
    return values[inner]


def keep_even(band: NDArray[Any], alpha: NDArray[Any], top: int, scale: int) -> None:
    """Gives pixels whose `alpha` (H, W, 1) equals that of their eight neighbours the same alpha again, in the last
    channel of `band` (scale h, scale W, C), contiguous: the enlarged rows `top`..`top` + h - 1."""
    width = alpha.shape[1]
    height = len(band) // scale
    padded = np.pad(alpha[max(0, top - 1) : top + height + 1, :, 0], ((0, 0), (1, 1)), "edge")
    if top == 0:
        padded = np.concatenate([padded[:1], padded])
    if top + height == len(alpha):
        padded = np.concatenate([padded, padded[-1:]])
    low, high = (_of_neighbours(padded, extreme) for extreme in (np.minimum, np.maximum))
    enlarged = band.reshape(height, scale, width, scale, -1)[..., -1]
    np.copyto(enlarged, low[:, None, :, None], where=(low == high)[:, None, :, None])


def _of_neighbours(padded: NDArray[Any], extreme: np.ufunc) -> NDArray[Any]:
    """(H, W): the minimum or maximum of each 3 x 3 pixels of (H + 2, W + 2)."""
    lines = extreme(extreme(padded[:-2], padded[1:-1]), padded[2:])
    return np.asarray(extreme(extreme(lines[:, :-2], lines[:, 1:-1]), lines[:, 2:]))


def _fill(values: NDArray[Any], coloured: NDArray[np.bool_], empty: NDArray[np.bool_], stride: int) -> None:
    """Fills `empty` pixels up to REACH_PX from `coloured` ones, in place; all are flat, rows of `stride` px."""
    offsets = [y * stride + x for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]
    ring = _beside(coloured, empty, offsets)
    for _ in range(REACH_PX):
        if not ring.size:
            return
        check_time()
        for pixels in _chunks(ring):
            sums = np.uint16 if values.dtype == np.uint8 else np.uint32
            total = np.zeros((len(pixels), values.shape[1]), sums)
            count = np.zeros((len(pixels), 1), sums)
            for offset in offsets:
                near = coloured[pixels + offset, None]
                total += values[pixels + offset] * near
                count += near
            values[pixels] = (total + count // 2) // count
        coloured[ring] = True
        ring = _next(ring, empty, offsets)
    empty[ring] = True  # taken from it, but not filled


def _beside(coloured: NDArray[np.bool_], empty: NDArray[np.bool_], offsets: list[int]) -> NDArray[np.int32]:
    """The first ring: `empty` pixels with a coloured neighbour, which are empty no more."""
    found = np.zeros_like(empty)
    for offset in offsets:
        if offset > 0:
            found[:-offset] |= coloured[offset:]
        else:
            found[-offset:] |= coloured[:offset]
    found &= empty
    empty ^= found
    starts = range(0, len(found), _CHUNK)
    return np.concatenate(
        [(start + np.flatnonzero(found[start : start + _CHUNK])).astype(np.int32) for start in starts]
    )


def _next(ring: NDArray[np.int32], empty: NDArray[np.bool_], offsets: list[int]) -> NDArray[np.int32]:
    """The `empty` neighbours of a ring, each once; they are empty no more."""
    found = []
    for pixels in _chunks(ring):
        for offset in offsets:
            near = pixels + np.int32(offset)
            near = near[empty[near]]
            empty[near] = False
            found.append(near)
    return np.concatenate(found)


def _chunks(ring: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
    return (ring[start : start + _CHUNK] for start in range(0, len(ring), _CHUNK))
