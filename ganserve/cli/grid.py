"""Many pictures on one sheet."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GAP_PX = 2
WHITE = 255


def compose_grid(images: Sequence[NDArray[np.uint8]], columns: int | None = None) -> NDArray[np.uint8]:
    """One sheet (H, W, C) uint8, filled row by row, white between the pictures and in cells left over.

    Args:
        images: (H, W, C) uint8 each, all of one shape.
        columns: pictures in a row; None is as square as it gets.

    Raises:
        ValueError: no picture, different shapes, or less than one column.
    """
    if not images:
        raise ValueError("a grid needs at least one picture")
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise ValueError(f"a grid needs pictures of one size, got {shapes[0]} and {shapes[1]}")
    if columns is not None and columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    across = min(columns or math.isqrt(len(images) - 1) + 1, len(images))
    down = -(-len(images) // across)
    height, width, channels = shapes[0]
    sheet = np.full((down * (height + GAP_PX) - GAP_PX, across * (width + GAP_PX) - GAP_PX, channels), WHITE, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, across)
        top, left = row * (height + GAP_PX), column * (width + GAP_PX)
        sheet[top : top + height, left : left + width] = image
    return sheet
