"""How far an image put together from upscaled tiles is from the image upscaled whole."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from artifact.shapes import round_up
from export.graph.samples import drawing, noise, photograph, synthetic_image
from models.architecture import Tiling

Upscale = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

IMAGES: Mapping[str, Callable[[int, int, int], NDArray[np.uint8]]] = {
    "noise": noise,
    "drawing": drawing,
    "stripes": synthetic_image,
    "photograph": photograph,
}
# Input px that are computed in all: 2 s of the compact network, about a minute of the largest.
BUDGET_PX = 1 << 17
# Of a window that is kept, at least.
KEPT_PX = 16


def seam_levels(upscale: Upscale, plan: Tiling, channels: int, scale: int) -> dict[str, float]:
    """The largest difference in uint8 levels between each of IMAGES upscaled whole and in windows of it.

    A window is cut on all four sides, and what is compared of it are the px that a tile would keep, `overlap_px` from
    its cuts and farther. It keeps as much as it loses on one side, so most of what is compared lies next to a cut;
    tiles that are served keep more and are not harder. The windows lie at as many places as BUDGET_PX allows.

    Args:
        upscale: (N, H, W, C) uint8 -> (N, scale*H, scale*W, C) uint8.
    """
    step, margin = plan.multiple_px, round_up(plan.overlap_px, plan.multiple_px)
    window = 2 * margin + round_up(max(margin, KEPT_PX), step)
    side = window + 2 * step + round_up(max(margin, KEPT_PX), step)
    places = max(1, (BUDGET_PX // len(IMAGES) - side**2) // window**2)
    return {
        name: _worst(upscale, make(side, side, channels), window, plan, scale, places) for name, make in IMAGES.items()
    }


def _worst(upscale: Upscale, image: NDArray[np.uint8], window: int, plan: Tiling, scale: int, places: int) -> float:
    """Over `places` windows of the image (S, S, C), whose sides lie at least one step inside it."""
    whole = upscale(image[None])[0].astype(np.int16)
    random = np.random.RandomState(0)
    steps = (len(image) - window) // plan.multiple_px - 1
    inner = slice(plan.overlap_px * scale, (window - plan.overlap_px) * scale)
    worst = 0
    for _ in range(places):
        y, x = (1 + random.randint(steps, size=2)) * plan.multiple_px
        tile = upscale(image[None, y : y + window, x : x + window])[0].astype(np.int16)
        reference = whole[y * scale :, x * scale :][: window * scale, : window * scale]
        worst = max(worst, int(np.abs(tile - reference)[inner, inner].max()))
    return float(worst)
