"""A picture of every direction: one image changed by -2 to 2 standard deviations along it."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from artifact.directions import Directions
from export.directions.space import Space

STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)
SHOWN = 12
SIDE_PX = 96
SEED = 1
_NAME_PX = 96
_HEAD_PX = 16


def write_strip(path: Path, space: Space, directions: Directions) -> None:
    """Writes a PNG with a row for each of the first directions, named on the left."""
    shown = directions.found[:SHOWN]
    point = space.points([SEED])[0]
    rows = []
    for each in shown:
        offset = (each.sigma * each.vector).astype(np.float32)
        points = np.stack([point + np.float32(strength) * offset for strength in STRENGTHS])
        rows.append(space.images(points, [SEED] * len(points)))
    height, width, channels = rows[0].shape[1:]
    scale = SIDE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    sheet = Image.new("RGB", (_NAME_PX + len(STRENGTHS) * size[0], _HEAD_PX + len(rows) * size[1]), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for column, strength in enumerate(STRENGTHS):
        draw.text((_NAME_PX + column * size[0] + size[0] // 2, 2), f"{strength:+g}", "black", font, anchor="ma")
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
    for row, (each, images) in enumerate(zip(shown, rows, strict=True)):
        top = _HEAD_PX + row * size[1]
        draw.text((4, top + size[1] // 2), each.name[:15], "black", font, anchor="lm")
        for column, pixels in enumerate(images):
            shades = pixels if channels >= 3 else pixels[:, :, :1].repeat(3, axis=2)
            image = Image.fromarray(np.ascontiguousarray(shades[:, :, :3])).resize(size, how)
            sheet.paste(image, (_NAME_PX + column * size[0], top))
    sheet.save(path)
