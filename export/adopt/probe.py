"""What no shape tells, found by running the graph: batches, sizes, scale, how far a pixel sees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from export.adopt.plain import Plain, RunError
from export.adopt.roles import Tensor
from export.adopt.wrap import with_free_axes
from export.errors import ExportError
from export.graph.samples import noise, synthetic_image

MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PROBE_PX = 40  # images for probing have at least this
SCALES = range(1, 17)
# The largest overlap of tiles: farther pixels inside a receptive field weigh next to nothing.
REACH_PX = 48
# Of the output's span: what counts as another value.
CHANGE = 1e-5

RunImage = Callable[[NDArray[np.uint8]], NDArray[np.generic]]
"""Images (N, H, W, C) uint8 -> the graph's values (N, H, W, C)."""


@dataclass(frozen=True)
class Sizes:
    """Heights and widths that an image may have, and how many times larger the output is.

    `only_px`: the one (H, W) of a graph that runs at no other.
    """

    multiple_px: int
    least_px: int
    scale: int
    only_px: tuple[int, int] | None = None

    def near(self, px: int) -> int:
        """The smallest side of at least that many px."""
        return max(-(-px // self.multiple_px) * self.multiple_px, self.least_px)


def scale_of(run: RunImage, height: int, width: int, channels: int) -> int | None:
    """How many times larger the output is; None if the graph does not run at this size, or not by a whole number."""
    try:
        found = run(synthetic_image(height, width, channels)[None])
    except RunError:
        return None
    scale = found.shape[1] // height
    return scale if scale in SCALES and found.shape[1:3] == (scale * height, scale * width) else None


def find_sizes(run: RunImage, channels: int) -> Sizes | None:
    """The smallest multiple and the smallest size that run; None if none does."""
    for multiple in MULTIPLES:
        odd = -(-PROBE_PX // multiple) | 1  # no multiple of 2 * multiple
        scale = scale_of(run, odd * multiple, (odd + 2) * multiple, channels)
        if scale is None:
            continue
        sides = [multiple, *(size for size in (8, 16, 32, 64, 128) if size > multiple and size % multiple == 0)]
        least = next((side for side in sides if scale_of(run, side, side, channels) == scale), odd * multiple)
        return Sizes(multiple, least, scale)
    return None


def reach_px(run: RunImage, sizes: Sizes, channels: int) -> int:
    """The radius in input px up to which a changed pixel was seen to change the output, REACH_PX + 1 if beyond.

    Measured, so a lower bound: on noise and on an image, with the middle pixel set to black and to white.
    """
    step = sizes.multiple_px
    side = max(-(-(2 * REACH_PX + 3) // step) * step, sizes.least_px)
    middle, largest = side // 2, 0
    for image in (noise(side, side, channels), synthetic_image(side, side, channels)):
        changed = np.stack([image, image])
        changed[0, middle, middle], changed[1, middle, middle] = 0, 255
        one, other = (run(each[None]).astype(np.float64)[0] for each in changed)
        span = max(float(np.ptp(one)), 1e-9)
        rows, columns = np.nonzero((np.abs(one - other) > CHANGE * span).any(axis=-1))
        for places in (rows, columns):
            if len(places):
                near = np.abs(places // sizes.scale - middle)
                largest = max(largest, int(near.max()))
    return min(largest, REACH_PX + 1)


def free_batch(
    proto: onnx.ModelProto,
    output: Tensor,
    items: Sequence[dict[str, NDArray[np.generic]]],
    singles: Sequence[NDArray[np.generic]],
    close: Callable[[NDArray[np.generic], NDArray[np.generic]], bool],
) -> tuple[onnx.ModelProto | None, str]:
    """The graph with a batch axis in which every item gets its own output; None and why not, if it has none.

    Args:
        items, singles: inputs of single items and what the graph gives for each.
        close: whether outputs are the same.
    """
    reason = ""
    joined = {name: np.concatenate([item[name] for item in items]) for name in items[0]}
    for reshapes in (False, True):
        found = with_free_axes(proto, (0,), reshapes)
        try:
            together = Plain(found).run(joined, output.name)
        except RunError as error:
            reason = reason or f"it does not run with {len(items)} ({error})"
            continue
        if together.shape == (len(items), *singles[0].shape[1:]) and close(together, np.concatenate(singles)):
            return found, ""
        reason = "in a batch an item gets another output than alone"
    return None, reason


def open_plain(proto: onnx.ModelProto, name: str) -> Plain:
    """The graph as it is.

    Raises:
        ExportError: ONNX Runtime does not open it.
    """
    try:
        return Plain(proto)
    except RunError as error:
        raise ExportError(f"{name}: ONNX Runtime does not open it: {error}") from None
