"""Per-pixel noise: one flat input cut into square maps, or maps that are the same at every call."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from artifact.spec import Scalar
from models.architecture import Setting

NOISE = Setting(
    "auto",
    "the noise of each pixel: an input sampled by seed, the same at every call, or none; auto is input up to 256 px",
    ("auto", "input", "const", "none"),
)
AUTO_INPUT_PX = 256


def noise_source(settings: Mapping[str, Scalar], side_px: int) -> str:
    """What the setting `noise` asks for: "input", "const" or "none"."""
    asked = str(settings["noise"])
    if asked != "auto":
        return asked
    return "input" if side_px <= AUTO_INPUT_PX else "const"


def split_noise(noise: torch.Tensor, sizes_px: Sequence[int]) -> list[torch.Tensor]:
    """Square maps (N, 1, S, S), one of each size, from `noise` (N, K) flat, K the sum of S * S."""
    pieces = torch.split(noise, [size * size for size in sizes_px], 1)
    return [piece.reshape(-1, 1, size, size) for piece, size in zip(pieces, sizes_px, strict=True)]


class NoiseMaps(nn.Module):
    """The maps of a network, in the order that it uses them.

    Args:
        sizes_px: the side of each map.
        source: "input"; "const", sampled here by `numpy.random.RandomState(0)`; or "none", no maps.
    """

    fixed: torch.Tensor

    def __init__(self, sizes_px: Sequence[int], source: str) -> None:
        super().__init__()
        self.sizes_px = list(sizes_px) if source != "none" else []
        size = sum(side**2 for side in self.sizes_px)
        self.input_size = size if source == "input" else 0
        fixed = np.random.RandomState(0).randn(1, size if source == "const" else 0)
        self.register_buffer("fixed", torch.from_numpy(fixed).float(), persistent=False)

    def forward(self, noise: torch.Tensor | None) -> list[torch.Tensor]:
        """Maps (N or 1, 1, S, S) float32, none for "none"; `noise` is (N, input_size) float32 if it is an input."""
        return split_noise(self.fixed if noise is None else noise, self.sizes_px) if self.sizes_px else []
