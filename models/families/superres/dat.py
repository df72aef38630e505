"""DAT: Chen, Zhang, Gu, Kong, Yang, Yu, "Dual Aggregation Transformer for Image Super-Resolution", 2023,
arXiv:2308.03364.

Reads the checkpoints of zhengchen1999/DAT (DAT, DAT-S, DAT-2, DAT-light), as neosr and traiNNer-redux train it too.
Every other block weighs channels by the whole image, so the networks are not run in tiles. Differences: none; masks and
index tables in files are computed anew, for any size.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, StateDict
from models.families.superres.dat_layers import Block, BlockConfig
from models.families.superres.heads import HEAD_RULES, Head, HeadConfig, find_head
from models.families.superres.swinir import MEAN, residual_conv
from models.state_dict import Rules, count, load, rename, shape

RULES: Rules = {
    **HEAD_RULES,
    r"before_RG\.1\.(\w+)": r"before.\1",
    r"conv_first\.\w+|norm\.\w+|conv_after_body\.(?:[024]\.)?\w+|layers\.\d+\.conv\.(?:[024]\.)?\w+": r"\g<0>",
    r"layers\.\d+\.blocks\.\d+\.attn\.(?:attn_mask_[01]|attns\.[01]\.(?:rpe_biases|relative_position_index))": None,
    r"layers\.\d+\.blocks\.\d+\.(?:norm[12]|attn|ffn)\..+": r"\g<0>",
}
# The distances between pixels of a window, whose last row is its size less one.
DISTANCES = "layers.0.blocks.0.attn.attns.0.rpe_biases"


@dataclass(frozen=True)
class DatConfig:
    """What sets one DAT apart from another. `depths` and `heads`: blocks and heads of each layer."""

    channels: int
    blocks: BlockConfig
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    three_convs: bool
    head: HeadConfig


class Layer(nn.Module):
    """Blocks and a conv, added to the input."""

    def __init__(self, config: DatConfig, index: int) -> None:
        super().__init__()
        heads, depth = config.heads[index], config.depths[index]
        self.blocks = nn.ModuleList(Block(config.blocks, heads, index, block) for block in range(depth))
        self.conv = residual_conv(config.blocks.width, config.three_convs)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, H, W, width) float32 from the same."""
        inner = maps
        for block in self.blocks:
            inner = block(inner)
        change: torch.Tensor = self.conv(inner.permute(0, 3, 1, 2))
        return maps + change.permute(0, 2, 3, 1)


class Dat(nn.Module):
    """Conv, layers of attention, conv, with a skip around them, and the head."""

    mean: torch.Tensor

    def __init__(self, config: DatConfig) -> None:
        super().__init__()
        width = config.blocks.width
        mean = MEAN if config.channels == 3 else (0.0,) * config.channels
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(config.channels, width, 3, 1, 1)
        self.before = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(len(config.depths)))
        self.norm = nn.LayerNorm(width)
        self.conv_after_body = residual_conv(width, config.three_convs)
        self.head = Head(config.head)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, scale*H, scale*W) float32, about [0, 1] but unbounded, from `image` (N, C, H, W) float32 in [0, 1]."""
        first = self.conv_first(image - self.mean)
        maps = self.before(first.permute(0, 2, 3, 1))
        for layer in self.layers:
            maps = layer(maps)
        body = self.conv_after_body(self.norm(maps).permute(0, 3, 1, 2))
        output: torch.Tensor = self.head(body + first)
        return output + self.mean


def _split(state: StateDict) -> tuple[int, int] | None:
    """(height, width) of the first windows; None where the file does not say it."""
    rows, axes = shape(state, DISTANCES, 2)
    if not rows or axes != 2:
        return None
    height, width = (int(value) + 1 for value in state[DISTANCES][-1])
    fits = height > 0 and width > 0 and rows == (2 * height - 1) * (2 * width - 1)
    return (height, width) if fits and max(height, width) % min(height, width) == 0 else None


def _config(state: StateDict) -> DatConfig | None:
    """What names and shapes say; None if a part is missing or does not fit the others."""
    renamed = rename(state, RULES, strict=True)
    width, channels, *_ = shape(renamed, "conv_first.weight", 4)
    hidden = shape(renamed, "layers.0.blocks.0.ffn.fc1.weight", 2)[0]
    split = _split(state)
    if not width or not hidden or split is None:
        return None
    depths = tuple(count(renamed, f"layers.{layer}.blocks") for layer in range(count(renamed, "layers")))
    heads = tuple(_heads(renamed, layer) for layer in range(len(depths)))
    head = find_head(renamed, width, channels)
    if head is None or head.kind == "none" or head.channels != channels:
        return None
    if width < 16 or any(each < 2 or each % 2 or width % each for each in heads):
        return None
    blocks = BlockConfig(width, split, hidden, "layers.0.blocks.0.attn.qkv.bias" in renamed)
    return DatConfig(channels, blocks, depths, heads, "conv_after_body.0.weight" in renamed, head)


def _heads(state: StateDict, layer: int) -> int:
    """From a block of channels; a layer without one has half of its heads at the end of a network for positions."""
    heads = shape(state, f"layers.{layer}.blocks.1.attn.temperature", 3)[0]
    return heads or 2 * shape(state, f"layers.{layer}.blocks.0.attn.attns.0.pos.pos3.2.weight", 2)[0]


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    config = _config(state)
    assert config is not None, "only called where _matches"
    return Generator(
        network=load(Dat(config), rename(state, RULES, strict=True)),
        task=Task.SUPER_RESOLUTION,
        hyperparameters={
            "embed_dim": config.blocks.width,
            "depth": " ".join(map(str, config.depths)),
            "num_heads": " ".join(map(str, config.heads)),
            "split_size": "x".join(map(str, config.blocks.split)),
            "expansion_factor": config.blocks.hidden / config.blocks.width,
            "upsampler": config.head.kind,
            "resi_connection": "3conv" if config.three_convs else "1conv",
            "upscale": config.head.scale,
            "channels": config.channels,
        },
        channels=config.channels,
        output_range=(0.0, 1.0),
        max_batch_size=2,
        scale=config.head.scale,
    )


ARCHITECTURE = Architecture(
    name="dat",
    reference="zhengchen1999/DAT, also as neosr and traiNNer-redux train it",
    matches=lambda state: _config(state) is not None,
    build=_build,
)
