"""How far an image put together from upscaled tiles is from the image upscaled whole."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from export.graph.samples import photograph
from models.architecture import Tiling

Upscale = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def seam_levels(upscale: Upscale, plan: Tiling, channels: int, scale: int) -> float:
    """The largest difference in uint8 levels between a strip upscaled whole and in two tiles with the plan's overlap.

    The tiles are three overlaps wide and two high, smaller than those that are served, to save time; this does not
    make it easier, since what a tile cannot see begins just as near. The strip is from a photograph: on noise, which
    Real-ESRGAN's larger networks turn into invented texture, tiles of any affordable overlap differ by tens of levels.

    Args:
        upscale: (N, H, W, C) uint8 -> (N, scale*H, scale*W, C) uint8.
    """
    margin = plan.overlap_px
    whole = photograph(2 * margin, 4 * margin, channels)[None]
    left = upscale(whole[:, :, : 3 * margin])[:, :, : 2 * margin * scale]
    right = upscale(whole[:, :, margin:])[:, :, margin * scale :]
    joined = np.concatenate([left, right], axis=2)
    return float(np.abs(joined.astype(np.int16) - upscale(whole).astype(np.int16)).max())
