"""Sample grids as PNG files."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def save_grid(pictures: Tensor, columns: int, path: Path, scale: int = 1) -> None:
    """Writes pictures row by row into one grey PNG.

    Args:
        pictures: (N, 1, H, W) float32, -1..1; N is a multiple of `columns`.
        columns: pictures in a row.
        path: the PNG; its folder is made.
        scale: pixels of the PNG per pixel of a picture.
    """
    n, _, height, width = pictures.shape
    levels = ((pictures.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    rows = levels.reshape(n // columns, columns, height, width).permute(0, 2, 1, 3)
    sheet = Image.fromarray(rows.reshape(n // columns * height, columns * width).numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST).save(path, optimize=True)
