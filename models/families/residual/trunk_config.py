"""What a residual generator is made of, as its state dict gives it, for ajbrock/BigGAN-PyTorch and StudioGAN."""

from dataclasses import dataclass

import torch
from torch import nn

from models.families.residual.attention import SelfAttention
from models.families.residual.conditional_norm import NormFactory, PlainNorm, from_label, from_vector
from models.families.residual.entries import Entry
from models.families.residual.trunk import (
    BottleneckBlock,
    ChunksToNorms,
    JointToNorms,
    LabelToNorms,
    LatentAlone,
    ResidualBlock,
    ResidualGenerator,
    Squash,
)


@dataclass(frozen=True)
class TrunkConfig:
    """What must be known to build the network.

    `condition` is what the norms depend on: "nothing"; the "label"'s index; its "shared" embedding; that and a chunk of
    the latent, "chunks"; or the embedding and the whole latent, "joint". `classes` and `embedding` are of the shared
    embedding, for "label" of the tables; `stem` counts the numbers that the first layer takes.
    """

    entries: tuple[Entry, ...]
    condition: str
    stem: int
    side_px: int
    classes: int
    embedding: int
    channels: int
    upsampling: str = "nearest"

    @property
    def blocks(self) -> tuple[Entry, ...]:
        """Without attention."""
        return tuple(entry for entry in self.entries if not entry.attention)

    @property
    def depth(self) -> int:
        """Blocks for each doubling; bottleneck blocks come in pairs, of which the second doubles."""
        return 2 if self.blocks[0].bottleneck else 1

    @property
    def size_px(self) -> int:
        """Side of the image."""
        return self.side_px * int(2 ** (len(self.blocks) // self.depth))

    @property
    def base_width(self) -> int:
        """What repositories call the width: a 16th of the first map's channels, a 4th where it doubles three times."""
        return self.blocks[0].before // (4 if len(self.blocks) // self.depth == 3 else 16)

    @property
    def latent_size(self) -> int:
        """Numbers of a latent."""
        if self.condition == "chunks":
            return self.stem * (len(self.blocks) + 1)
        return self.stem - self.embedding if self.condition == "joint" else self.stem

    @property
    def condition_size(self) -> int:
        """Numbers that the norms depend on, if these are a vector."""
        chunk = {"shared": 0, "chunks": self.stem, "joint": self.stem - self.embedding}
        return self.embedding + chunk.get(self.condition, 0)

    @property
    def attention_px(self) -> tuple[int, ...]:
        """Sides of the maps that attention sees."""
        seen, sides = 0, []
        for entry in self.entries:
            seen += not entry.attention
            if entry.attention:
                sides.append(self.side_px * int(2 ** (seen // self.depth)))
        return tuple(sides)

    def network(
        self, eps: float, last_eps: float, activation: nn.Module, squash: Squash = torch.tanh
    ) -> ResidualGenerator:
        """The network, untrained; `eps` of the blocks' batch norms, `last_eps` of the one before the image."""
        norm = self._norm(eps)
        layers: list[nn.Module] = []
        blocks = 0
        for entry in self.entries:
            if entry.attention:
                layers.append(SelfAttention(entry.before))
                continue
            blocks += 1
            if entry.bottleneck:
                doubles = blocks % 2 == 0
                layers.append(BottleneckBlock(entry.before, entry.after, norm, activation, doubles, entry.projected))
            else:
                layers.append(ResidualBlock(entry.before, entry.after, norm, activation, self.upsampling))
        widths = (self.blocks[0].before, self.blocks[-1].after)
        source = self._source()
        return ResidualGenerator(
            source, self.stem, self.side_px, layers, widths, self.channels, last_eps, activation, squash
        )

    def _norm(self, eps: float) -> NormFactory:
        if self.condition == "nothing":
            return lambda channels: PlainNorm(channels, eps)
        return from_label(self.classes, eps) if self.condition == "label" else from_vector(self.condition_size, eps)

    def _source(self) -> nn.Module:
        blocks = len(self.blocks)
        if self.condition == "nothing":
            return LatentAlone(blocks)
        if self.condition == "label":
            return LabelToNorms(blocks)
        if self.condition == "joint":
            return JointToNorms(blocks, self.classes, self.embedding)
        return ChunksToNorms(blocks, self.stem, self.classes, self.embedding, self.condition == "chunks")
