"""Sample grids as PNG files."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def save_grid(pictures: Tensor, columns: int, path: Path, scale: int = 1) -> None:
    """Writes pictures row by row into one PNG, grey or in colours.

    Args:
        pictures: (N, C, H, W) float32, -1..1, C 1 or 3; N is a multiple of `columns`.
        columns: pictures in a row.
        path: the PNG; its folder is made.
        scale: pixels of the PNG per pixel of a picture.
    """
    n, channels, height, width = pictures.shape
    levels = ((pictures.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    rows = levels.reshape(n // columns, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    whole = rows.reshape(n // columns * height, columns * width, channels).numpy()
    sheet = Image.fromarray(whole[..., 0] if channels == 1 else whole)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST).save(path, optimize=True)
