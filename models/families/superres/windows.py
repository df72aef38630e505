"""Attention inside windows of an image, for images of any size: Liu et al., "Swin Transformer", 2021, arXiv:2103.14030.

Everything that depends on the size of the image (windows, the regions that a shift joins, padding) is computed from it
when the network runs, so that one exported graph takes every size.
"""

from collections.abc import Sequence

import torch
from torch import nn

# Between pixels that only the shift has made neighbours, before softmax.
APART = -100.0


class Windows:
    """An image of (H, W) px in windows of (height, width) px, both multiples; `shift`: how far they are moved down and
    right, with what leaves the image entering on the other side."""

    def __init__(self, counts: tuple[int, int], size: tuple[int, int], shift: tuple[int, int] = (0, 0)) -> None:
        self.counts, self.size, self.shift = counts, size, shift

    def cut(self, maps: torch.Tensor) -> torch.Tensor:
        """(N * windows, height * width, C) from `maps` (N, H, W, C)."""
        (rows, columns), (height, width), channels = self.counts, self.size, maps.shape[-1]
        maps = _rolled(maps, self.shift)
        parts = maps.reshape(-1, rows, height, columns, width, channels).transpose(2, 3)
        return parts.reshape(-1, height * width, channels)

    def join(self, windows: torch.Tensor) -> torch.Tensor:
        """(N, H, W, C) from what `cut` gives."""
        (rows, columns), (height, width), channels = self.counts, self.size, windows.shape[-1]
        parts = windows.reshape(-1, rows, columns, height, width, channels).transpose(2, 3)
        maps = parts.reshape(-1, rows * height, columns * width, channels)
        return _rolled(maps, (-self.shift[0], -self.shift[1]))

    def apart(self, like: torch.Tensor) -> torch.Tensor:
        """(windows, T, T) of `like`'s dtype, T = height * width: APART between pixels that were no neighbours."""
        labels = []
        for count, size, shift in zip(self.counts, self.size, self.shift, strict=True):
            place = torch.arange(count * size, device=like.device)
            labels.append((place >= (count - 1) * size).to(like.dtype) + (place >= count * size - shift).to(like.dtype))
        regions = (3 * labels[0][:, None] + labels[1])[None, :, :, None]
        inside = Windows(self.counts, self.size).cut(regions)[..., 0]
        return (inside[:, None, :] != inside[:, :, None]).to(like.dtype) * APART


def _rolled(maps: torch.Tensor, by: tuple[int, int]) -> torch.Tensor:
    """(N, H, W, C) moved up and left by so many px, cyclically."""
    for axis, px in enumerate(by, 1):
        if px:
            length = maps.shape[axis]
            start = px if px > 0 else length + px
            maps = torch.cat((maps.narrow(axis, start, length - start), maps.narrow(axis, 0, start)), dim=axis)
    return maps


def windows_along(length: int, size: int) -> int:
    """How many windows cover an axis."""
    return (length + size - 1) // size


def reflected(image: torch.Tensor, counts: Sequence[int], size: int) -> torch.Tensor:
    """(N, C, counts[0] * size, counts[1] * size): `image` (N, C, H, W) reflected at its bottom and right."""
    for axis, count in zip((2, 3), counts, strict=True):
        length = image.shape[axis]
        place = torch.arange(count * size, device=image.device)
        image = image.index_select(axis, torch.where(place < length, place, 2 * (length - 1) - place))
    return image


def relative_positions(size: tuple[int, int]) -> torch.Tensor:
    """(T, T) int64, T = height * width: the row of a bias table that a query's and a key's distance has."""
    height, width = size
    y, x = (axis.flatten() for axis in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    down, across = y[:, None] - y + height - 1, x[:, None] - x + width - 1
    return down * (2 * width - 1) + across


def attend(
    qkv: tuple[torch.Tensor, torch.Tensor, torch.Tensor], heads: int, bias: torch.Tensor, apart: torch.Tensor | None
) -> torch.Tensor:
    """Softmax attention inside each window.

    Args:
        qkv: queries, keys and values, each (N * windows, T, C); a head has consecutive channels.
        heads: how many.
        bias: (heads, T, T), by the position of the key from the query.
        apart: (windows, T, T) to add, or None.

    Returns:
        (N * windows, T, C).
    """
    tokens, channels = qkv[0].shape[1:]
    query, key, value = (part.reshape(-1, tokens, heads, channels // heads).transpose(1, 2) for part in qkv)
    scores = (query * (channels // heads) ** -0.5) @ key.transpose(-2, -1) + bias
    if apart is not None:
        masked = scores.reshape(-1, apart.shape[0], heads, tokens, tokens) + apart[:, None]
        scores = masked.reshape(-1, heads, tokens, tokens)
    return (torch.softmax(scores, dim=-1) @ value).transpose(1, 2).reshape(-1, tokens, channels)


class Mlp(nn.Module):
    """Two layers for each pixel, GELU between them."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(..., channels) float32 from the same."""
        changed: torch.Tensor = self.fc2(self.act(self.fc1(maps)))
        return changed


def window_interval(low: int, high: int, size: int, shift: int) -> tuple[int, int]:
    """The pixels along an axis, first and last, of the windows that pixels `low` to `high` lie in."""
    return (low - shift) // size * size + shift, (high - shift) // size * size + shift + size - 1
