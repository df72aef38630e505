"""Residual generators: the trunk that SNGAN (Miyato and others, 2018, arXiv:1802.05957), SAGAN (Zhang and others, 2018,
arXiv:1805.08318) and BigGAN (Brock, Donahue, Simonyan, 2018, arXiv:1809.11096) share.

A linear stem makes a small map; residual blocks double it; batch norm, activation, a conv and a squashing function give
the image. The families differ in how the condition is made and enters, in upsampling, in epsilons and in names: their
modules translate their state dicts into this network's.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import nn

from models.families.residual.attention import SelfAttention
from models.families.residual.conditional_norm import NormFactory, PlainNorm

Conditions: TypeAlias = list[torch.Tensor | None]
Squash: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


class ResidualBlock(nn.Module):
    """norm, activation, upsample, 3x3 conv, norm, activation, 3x3 conv; next to it a 1x1 conv, upsampled.

    The 1x1 conv runs before the upsampling, which changes nothing but its cost: both are linear and keep constants.
    """

    def __init__(self, before: int, after: int, norm: NormFactory, activation: nn.Module, upsampling: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(before), norm(after)
        self.conv1 = nn.Conv2d(before, after, 3, 1, 1)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1)
        self.shortcut = nn.Conv2d(before, after, 1)
        self.activation = activation
        self.upsample = upsample(upsampling)

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
        """(N, after, 2H, 2W) float32 from `x` (N, before, H, W); `condition` as the norms take it."""
        h = self.activation(self.norm1(x, condition))
        h = self.conv1(self.upsample(h))
        h = self.conv2(self.activation(self.norm2(h, condition)))
        joined: torch.Tensor = h + self.upsample(self.shortcut(x))
        return joined


class BottleneckBlock(nn.Module):
    """BigGAN-deep's block: 1x1 conv to a quarter, two 3x3 convs, 1x1 conv back, a norm and an activation before each.

    Beside it the map itself, less its last channels where fewer come out; with `projected` a 1x1 conv of it.
    """

    def __init__(
        self, before: int, after: int, norm: NormFactory, activation: nn.Module, doubles: bool, projected: bool = False
    ) -> None:
        super().__init__()
        middle = before // 4
        self.norm1, self.norm2, self.norm3, self.norm4 = norm(before), norm(middle), norm(middle), norm(middle)
        self.conv1 = nn.Conv2d(before, middle, 1)
        self.conv2 = nn.Conv2d(middle, middle, 3, 1, 1)
        self.conv3 = nn.Conv2d(middle, middle, 3, 1, 1)
        self.conv4 = nn.Conv2d(middle, after, 1)
        self.shortcut = nn.Conv2d(before, after, 1) if projected else nn.Identity()
        self.after = after
        self.activation = activation
        self.upsample = upsample("nearest") if doubles else nn.Identity()

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
        """(N, after, H, W) float32, H and W doubled where it doubles, from `x` (N, before, H, W)."""
        h = self.conv1(self.activation(self.norm1(x, condition)))
        h = self.conv2(self.upsample(self.activation(self.norm2(h, condition))))
        h = self.conv3(self.activation(self.norm3(h, condition)))
        h = self.conv4(self.activation(self.norm4(h, condition)))
        joined: torch.Tensor = h + self.upsample(self.shortcut(x)[:, : self.after])
        return joined


def upsample(mode: str) -> nn.Module:
    """Twice the height and width, "nearest" or "bilinear" (align_corners False)."""
    return nn.Upsample(scale_factor=2.0, mode=mode)


class LatentAlone(nn.Module):
    """No condition: the whole latent goes into the stem."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, latent: torch.Tensor, label: torch.Tensor | None) -> tuple[torch.Tensor, Conditions]:
        """(what the stem takes, one condition for each block)."""
        return latent, [None] * self.blocks


class LabelToNorms(LatentAlone):
    """The label's index goes to every norm."""

    def forward(self, latent: torch.Tensor, label: torch.Tensor | None) -> tuple[torch.Tensor, Conditions]:
        """(what the stem takes, one condition for each block)."""
        return latent, [label] * self.blocks


class ChunksToNorms(nn.Module):
    """The label's shared embedding goes to every block, and behind it, where the latent is split, the block's chunk.

    Args:
        blocks: number of them.
        chunk: numbers of the latent that the stem takes, and each block where `split`.
        classes, embedding: of the shared embedding; 0: there is none.
        split: whether the latent is cut into blocks + 1 chunks.
    """

    def __init__(self, blocks: int, chunk: int, classes: int, embedding: int, split: bool) -> None:
        super().__init__()
        self.shared = nn.Embedding(classes, embedding) if classes else None
        self.blocks, self.chunk, self.split = blocks, chunk, split

    def forward(self, latent: torch.Tensor, label: torch.Tensor | None) -> tuple[torch.Tensor, Conditions]:
        """(what the stem takes, one condition for each block)."""
        shared = [] if self.shared is None else [self.shared(label)]
        if not self.split:
            return latent, list(shared * self.blocks)
        first, *rest = torch.split(latent, self.chunk, dim=1)
        return first, [torch.cat([*shared, chunk], dim=1) for chunk in rest]


class JointToNorms(nn.Module):
    """The label's embedding and the latent, joined, go into the stem and to every norm."""

    def __init__(self, blocks: int, classes: int, embedding: int) -> None:
        super().__init__()
        self.shared = nn.Embedding(classes, embedding) if classes else None
        self.blocks = blocks

    def forward(self, latent: torch.Tensor, label: torch.Tensor | None) -> tuple[torch.Tensor, Conditions]:
        """(what the stem takes, one condition for each block)."""
        joined = latent if self.shared is None else torch.cat([self.shared(label), latent], dim=1)
        return joined, [joined] * self.blocks


class ResidualGenerator(nn.Module):
    """Source, stem, layers, head.

    Args:
        source: from latent and label to the stem's input and the blocks' conditions.
        stem: numbers that go into the linear stem.
        side_px: of the map that comes out of it.
        layers: residual blocks, and attention between them.
        widths: channels of the first map and of the last.
        channels: of the image.
        eps: of the last batch norm.
        activation: before the last conv.
        squash: after it.
    """

    def __init__(
        self,
        source: nn.Module,
        stem: int,
        side_px: int,
        layers: Sequence[nn.Module],
        widths: tuple[int, int],
        channels: int,
        eps: float,
        activation: nn.Module,
        squash: Squash = torch.tanh,
    ) -> None:
        super().__init__()
        self.source = source
        self.stem = nn.Linear(stem, widths[0] * side_px**2)
        self.layers = nn.ModuleList(layers)
        self.norm = PlainNorm(widths[1], eps)
        self.activation = activation
        self.head = nn.Conv2d(widths[1], channels, 3, 1, 1)
        self.squash = nn.Tanh() if squash is torch.tanh else squash
        self.first_map = (widths[0], side_px, side_px)

    def forward(self, latent: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """Images (N, C, H, W) float32.

        Args:
            latent: (N, Z) float32, standard normal.
            label: (N,) int64 in 0..classes-1 where the source has classes.
        """
        code, conditions = self.source(latent, label)
        x = self.stem(code).unflatten(1, self.first_map)
        remaining = iter(conditions)
        for layer in self.layers:
            x = layer(x) if isinstance(layer, SelfAttention) else layer(x, next(remaining))
        return self.squash(self.head(self.activation(self.norm(x))))
