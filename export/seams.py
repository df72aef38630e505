"""How far a picture put together from tiles is from the picture enlarged whole."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from export.samples import picture
from models.architecture import TilePlan

Upscale = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def seam_levels(upscale: Upscale, plan: TilePlan, channels: int, scale: int) -> float:
    """The largest difference in uint8 levels, whole against four tiles with the plan's overlap.

    The tiles are three overlaps wide, smaller than those that are served, which keeps the measurement short and is no
    easier: what a tile cannot see begins as near as with larger tiles, and on all sides of the middle.

    Args:
        upscale: (N, H, W, C) uint8 -> (N, scale*H, scale*W, C) uint8.
    """
    margin = plan.overlap_px
    side, step = 3 * margin, margin
    whole = picture(side + step, side + step, channels, seed=7)
    expected = upscale(whole[None])[0]
    joined = np.empty_like(expected)
    for top in (0, step):
        for left in (0, step):
            tile = upscale(whole[None, top : top + side, left : left + side])[0]
            # The first tile keeps all but its far margin, the second all but its near one.
            y, x = (margin if top else 0), (margin if left else 0)
            kept = tile[y * scale : (y + 2 * margin) * scale, x * scale : (x + 2 * margin) * scale]
            y, x = (top + y) * scale, (left + x) * scale
            joined[y : y + kept.shape[0], x : x + kept.shape[1]] = kept
    return float(np.abs(joined.astype(np.int16) - expected.astype(np.int16)).max())
