"""Conditional batch norm: Dumoulin, Shlens, Kudlur, "A Learned Representation for Artistic Style", 2016,
arXiv:1610.07629; de Vries and others, "Modulating early visual processing by language", 2017, arXiv:1707.00683.

One module for what training repositories write in many ways: gains and biases come from a table by label, or linearly
from a vector. Constants such as the 1 in "1 + gain" are folded into the table or the bias.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import nn

NormFactory: TypeAlias = Callable[[int], nn.Module]
"""Makes the norm of a map of so many channels; its forward takes (map, condition)."""


class PlainNorm(nn.BatchNorm2d):
    """Batch norm that is given a condition and has no use for it."""

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """(N, C, H, W) float32 from the same."""
        return super().forward(x)


class ConditionalNorm(nn.Module):
    """Stored statistics, then a gain and a bias for each row and channel.

    Args:
        channels: C.
        affine: gives (N, 2C), gains then biases, from the condition.
        eps: of the batch norm.
    """

    def __init__(self, channels: int, affine: nn.Module, eps: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps, affine=False)
        self.affine = affine

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) float32 from the same.

        Args:
            x: the map.
            condition: (N, D) float32 for an affine nn.Linear, (N,) int64 for an nn.Embedding.
        """
        gain, bias = self.affine(condition)[:, :, None, None].chunk(2, dim=1)
        normed: torch.Tensor = self.norm(x) * gain + bias
        return normed


def from_vector(size: int, eps: float) -> NormFactory:
    """Norms whose gains and biases are linear in a vector of `size` numbers."""
    return lambda channels: ConditionalNorm(channels, nn.Linear(size, 2 * channels), eps)


def from_label(classes: int, eps: float) -> NormFactory:
    """Norms with a table of gains and biases by label."""
    return lambda channels: ConditionalNorm(channels, nn.Embedding(classes, 2 * channels), eps)


def linear_weights(gain: torch.Tensor, bias: torch.Tensor) -> dict[str, torch.Tensor]:
    """`affine.*` of a norm `from_vector`: gain = 1 + `gain` y, bias = `bias` y; both (C, D) float32."""
    constants = torch.cat([torch.ones(len(gain)), torch.zeros(len(bias))])
    return {"affine.weight": torch.cat([gain, bias]), "affine.bias": constants}


def table_weights(gain: torch.Tensor, bias: torch.Tensor) -> dict[str, torch.Tensor]:
    """`affine.*` of a norm `from_label`: gain = 1 + `gain`[label], bias = `bias`[label]; both (classes, C) float32."""
    return {"affine.weight": torch.cat([1.0 + gain, bias], dim=1)}
