"""Several images in one."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GAP_PX = 2
WHITE = 255


def compose_grid(images: Sequence[NDArray[np.uint8]], columns: int | None = None) -> NDArray[np.uint8]:
    """A grid (H, W, C) uint8, filled row by row, white between the images and in unused cells.

    Args:
        images: (H, W, C) uint8 each, all of one shape.
        columns: images per row; None: as square as possible.

    Raises:
        ValueError: no image, different shapes, or less than one column.
    """
    if not images:
        raise ValueError("a grid needs at least one image")
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise ValueError(f"a grid needs images of one size, got {shapes[0]} and {shapes[1]}")
    if columns is not None and columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    across = min(columns or math.isqrt(len(images) - 1) + 1, len(images))
    down = -(-len(images) // across)
    height, width, channels = shapes[0]
    grid = np.full((down * (height + GAP_PX) - GAP_PX, across * (width + GAP_PX) - GAP_PX, channels), WHITE, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, across)
        top, left = row * (height + GAP_PX), column * (width + GAP_PX)
        grid[top : top + height, left : left + width] = image
    return grid
