"""One sheet with images of each model over its name; of upscalers and translators, input and output side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

CELL_PX = 256  # what blocks of four images of 32 and 64 px fill with whole pixels
GAP_PX = 12
TEXT_PX = 20
COLUMNS = 6
PAPER, INK = (255, 255, 255), (40, 40, 40)


@dataclass(frozen=True)
class Panel:
    """`images`: (H, W, 1, 3 or 4) uint8 each, side by side; `title`: the text below them."""

    title: str
    images: tuple[NDArray[np.uint8], ...]

    @property
    def width_px(self) -> int:
        """Of the images in their cells."""
        return len(self.images) * (CELL_PX + GAP_PX) - GAP_PX


def compose_contact_sheet(panels: Sequence[Panel]) -> Image.Image:
    """The sheet, RGB: panels in rows as wide as COLUMNS cells, in the order given.

    Raises:
        ValueError: no panel.
    """
    if not panels:
        raise ValueError("a contact sheet needs at least one panel")
    rows = _rows(panels)
    row_px = CELL_PX + GAP_PX // 2 + TEXT_PX + 2 * GAP_PX
    width = 2 * GAP_PX + max(sum(panel.width_px + GAP_PX for panel in row) - GAP_PX for row in rows)
    sheet = Image.new("RGB", (width, len(rows) * row_px + GAP_PX), PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, row in enumerate(rows):
        left, top = GAP_PX, GAP_PX + index * row_px
        for panel in row:
            for place, pixels in enumerate(panel.images):
                fitted = fit(pixels, CELL_PX)
                x = left + place * (CELL_PX + GAP_PX) + (CELL_PX - fitted.width) // 2
                sheet.paste(fitted, (x, top + (CELL_PX - fitted.height) // 2))
            _write(pen, panel, left, top + CELL_PX + GAP_PX // 2)
            left += panel.width_px + GAP_PX
    return sheet


def fit(pixels: NDArray[np.uint8], side_px: int) -> Image.Image:
    """The image as large as it gets within a square, RGB: pixels repeated if it is smaller, else resampled."""
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    if image.mode == "RGBA":
        paper = Image.new("RGBA", image.size, PAPER)
        image = Image.alpha_composite(paper, image)
    image = image.convert("RGB")
    longest = max(image.size)
    if longest <= side_px:
        times = side_px // longest
        return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    size = (max(1, image.width * side_px // longest), max(1, image.height * side_px // longest))
    return image.resize(size, Image.Resampling.LANCZOS)


def _rows(panels: Sequence[Panel]) -> list[list[Panel]]:
    rows: list[list[Panel]] = [[]]
    for panel in panels:
        cells = sum(len(each.images) for each in rows[-1])
        if rows[-1] and cells + len(panel.images) > COLUMNS:
            rows.append([])
        rows[-1].append(panel)
    return rows


def _write(pen: ImageDraw.ImageDraw, panel: Panel, left: int, top: int) -> None:
    """The title, centred below the images, in smaller letters if it is too long."""
    size = TEXT_PX
    while size > 6 and pen.textlength(panel.title, ImageFont.load_default(size)) > panel.width_px:
        size -= 1
    middle = left + panel.width_px / 2
    pen.text((middle, top), panel.title, INK, ImageFont.load_default(size), anchor="ma")
