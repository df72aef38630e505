"""SwinIR: Liang, Cao, Sun, Zhang, Van Gool, Timofte, "SwinIR: Image Restoration Using Swin Transformer", 2021,
arXiv:2108.10257.

Reads the checkpoints of JingyunLiang/SwinIR and KAIR: classical, lightweight and real-world (GAN) upscalers, denoising
and JPEG artefacts. Differences: the image is extended to whole windows by reflection, as in training code; the authors'
test script appends one window of mirrored rows more. Masks and index tables in files are computed anew, for any size.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict, Tiling
from models.families.superres.heads import HEAD_RULES, Head, HeadConfig, find_head
from models.families.superres.windows import (
    Mlp,
    Windows,
    attend,
    reflected,
    relative_positions,
    window_interval,
    windows_along,
)
from models.state_dict import Rules, count, load, rename, shape

MEAN = (0.4488, 0.4371, 0.4040)
UNSHUFFLES = (1, 2, 4)
# The JPEG networks are the only ones with windows of 7, and the only ones trained on images of this range.
JPEG_WINDOW = 7
# Tiles begin at multiples of the window, so only what lies beyond their cuts is missing; export measures it.
TILE_PX = 256
OVERLAP_PX = 64
MAX_SEAM_LEVELS = 2.0
IMG_RANGE = Setting(
    "auto", "what the image is multiplied by; auto: 255 with windows of 7 px, else 1", ("auto", "1", "255")
)
RULES: Rules = {
    **HEAD_RULES,
    r"conv_first\.1\.(\w+)": r"conv_first.\1",
    r"conv_first\.\w+|patch_embed\.norm\.\w+|norm\.\w+|conv_after_body\.(?:[024]\.)?\w+": r"\g<0>",
    r"layers\.\d+\.residual_group\.blocks\.\d+\.(?:attn_mask|attn\.relative_position_index)": None,
    r"layers\.(\d+)\.residual_group\.blocks\.(\d+)\.((?:norm[12]|attn|mlp)\..+)": r"layers.\1.blocks.\2.\3",
    r"layers\.\d+\.conv\.(?:[024]\.)?\w+": r"\g<0>",
}


@dataclass(frozen=True)
class SwinConfig:
    """What sets one SwinIR apart from another. `depths` and `heads`: blocks and heads of each layer."""

    channels: int
    unshuffle: int
    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    hidden: int
    qkv_bias: bool
    patch_norm: bool
    three_convs: bool
    img_range: float
    head: HeadConfig

    @property
    def multiple_px(self) -> int:
        """Side of a window in px of the image."""
        return self.window * self.unshuffle

    @property
    def scale(self) -> int:
        """How much larger the image gets."""
        return self.head.scale // self.unshuffle

    @property
    def receptive_field_px(self) -> int:
        """How far one output pixel sees, in input pixels: intervals walked back through the layers."""
        radius, convs = 0, 2 if self.three_convs else 1
        for pixel in range(self.window * self.head.scale):
            low, high = self.head.interval(pixel, pixel)
            low, high = low - convs, high + convs
            for depth in reversed(self.depths):
                low, high = low - convs, high + convs
                for block in reversed(range(depth)):
                    low, high = window_interval(low, high, self.window, self.window // 2 * (block % 2))
            first, last = (low - 1) * self.unshuffle, (high + 2) * self.unshuffle - 1
            radius = max(radius, pixel // self.scale - first, last - pixel // self.scale)
        return radius


class Attention(nn.Module):
    """Of the pixels of a window to each other."""

    positions: torch.Tensor

    def __init__(self, width: int, heads: int, window: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("positions", relative_positions((window, window)), persistent=False)

    def forward(self, windows: torch.Tensor, apart: torch.Tensor | None) -> torch.Tensor:
        """(N * windows, T, width) float32 from the same; `apart` as in `attend`."""
        query, key, value = self.qkv(windows).chunk(3, dim=-1)
        bias = self.relative_position_bias_table[self.positions].permute(2, 0, 1)
        output: torch.Tensor = self.proj(attend((query, key, value), self.heads, bias, apart))
        return output


class Block(nn.Module):
    """Attention and two layers for each pixel, each added to its input."""

    def __init__(self, config: SwinConfig, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.attn = Attention(config.width, heads, config.window, config.qkv_bias)
        self.norm2 = nn.LayerNorm(config.width)
        self.mlp = Mlp(config.width, config.hidden)

    def forward(self, maps: torch.Tensor, windows: Windows, apart: torch.Tensor | None) -> torch.Tensor:
        """(N, H, W, width) float32 from the same."""
        maps = maps + windows.join(self.attn(windows.cut(self.norm1(maps)), apart))
        changed: torch.Tensor = self.mlp(self.norm2(maps))
        return maps + changed


class Layer(nn.Module):
    """Blocks, every other one with shifted windows, and a conv; added to the input."""

    def __init__(self, config: SwinConfig, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config, heads) for _ in range(depth))
        self.conv = residual_conv(config.width, config.three_convs)

    def forward(self, maps: torch.Tensor, ways: list[tuple[Windows, torch.Tensor | None]]) -> torch.Tensor:
        """(N, H, W, width) float32 from the same; `ways`: plain and shifted windows."""
        inner = maps
        for index, block in enumerate(self.blocks):
            inner = block(inner, *ways[index % 2])
        change: torch.Tensor = self.conv(inner.permute(0, 3, 1, 2))
        return maps + change.permute(0, 2, 3, 1)


def residual_conv(width: int, three: bool) -> nn.Module:
    """What follows a layer's blocks: a 3x3 conv, or three convs through a quarter of the channels."""
    if not three:
        return nn.Conv2d(width, width, 3, 1, 1)
    inner = width // 4
    first, middle, last = nn.Conv2d(width, inner, 3, 1, 1), nn.Conv2d(inner, inner, 1), nn.Conv2d(inner, width, 3, 1, 1)
    return nn.Sequential(first, nn.LeakyReLU(0.2), middle, nn.LeakyReLU(0.2), last)


class SwinIr(nn.Module):
    """Conv, layers of window attention, conv, with a skip around them, and the head."""

    mean: torch.Tensor

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        mean = MEAN if config.channels == 3 else (0.0,) * config.channels
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(config.channels * config.unshuffle**2, config.width, 3, 1, 1)
        if config.patch_norm:
            self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(config.width)})
        self.layers = nn.ModuleList(Layer(config, *sizes) for sizes in zip(config.depths, config.heads, strict=True))
        self.norm = nn.LayerNorm(config.width)
        self.conv_after_body = residual_conv(config.width, config.three_convs)
        self.head = Head(config.head)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, scale*H, scale*W) float32, about [0, 1] but unbounded, from `image` (N, C, H, W) float32 in [0, 1]."""
        (height, width), config = image.shape[-2:], self.config
        counts = (windows_along(height, config.multiple_px), windows_along(width, config.multiple_px))
        shifted = (reflected(image, counts, config.multiple_px) - self.mean) * config.img_range
        packed = nn.functional.pixel_unshuffle(shifted, config.unshuffle) if config.unshuffle > 1 else shifted
        first = self.conv_first(packed)
        body: torch.Tensor = self.conv_after_body(self._layers(first.permute(0, 2, 3, 1), counts).permute(0, 3, 1, 2))
        output: torch.Tensor = self.head(body + first)
        if config.head.kind == "none":
            output = shifted + output
        output = output / config.img_range + self.mean
        return output[:, :, : config.scale * height, : config.scale * width]

    def _layers(self, maps: torch.Tensor, counts: tuple[int, int]) -> torch.Tensor:
        window = self.config.window
        plain = Windows(counts, (window, window))
        moved = Windows(counts, (window, window), (window // 2, window // 2))
        ways: list[tuple[Windows, torch.Tensor | None]] = [(plain, None), (moved, moved.apart(maps))]
        if self.config.patch_norm:
            maps = self.patch_embed["norm"](maps)
        for layer in self.layers:
            maps = layer(maps, ways)
        return self.norm(maps)  # type: ignore[no-any-return]


def _config(state: StateDict, img_range: str) -> SwinConfig | None:
    """What the shapes say of renamed weights; None if a part is missing or does not fit the others."""
    width, inputs, *_ = shape(state, "conv_first.weight", 4)
    depths = tuple(count(state, f"layers.{layer}.blocks") for layer in range(count(state, "layers")))
    tables = [
        shape(state, f"layers.{layer}.blocks.0.attn.relative_position_bias_table", 2) for layer in range(len(depths))
    ]
    hidden = shape(state, "layers.0.blocks.0.mlp.fc1.weight", 2)[0]
    if not width or not depths or not hidden or len({rows for rows, _ in tables}) != 1:
        return None
    side, heads = math.isqrt(tables[0][0]), tuple(heads for _, heads in tables)
    if side**2 != tables[0][0] or side % 2 == 0 or any(not each or width % each for each in heads):
        return None
    head = find_head(state, width, inputs if inputs in (1, 3, 4) else 3)
    unshuffle = next((by for by in UNSHUFFLES if head and inputs == head.channels * by**2), 0)
    if head is None or not unshuffle or head.scale % unshuffle:
        return None
    window = (side + 1) // 2
    range_of = {"auto": 255.0 if window == JPEG_WINDOW else 1.0}
    return SwinConfig(
        channels=head.channels,
        unshuffle=unshuffle,
        width=width,
        depths=depths,
        heads=heads,
        window=window,
        hidden=hidden,
        qkv_bias="layers.0.blocks.0.attn.qkv.bias" in state,
        patch_norm="patch_embed.norm.weight" in state,
        three_convs="conv_after_body.0.weight" in state,
        img_range=range_of.get(img_range) or float(img_range),
        head=head,
    )


def _matches(state: StateDict) -> bool:
    renamed = rename(state, RULES, strict=True)
    return bool(renamed) and _config(renamed, "auto") is not None


def _relative(state: StateDict) -> str | None:
    if "absolute_pos_embed" in state and "layers.0.residual_group.blocks.0.attn.qkv.weight" in state:
        return "a SwinIR with absolute_pos_embed, which is of one size of image only"
    return None


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    renamed = rename(state, RULES, strict=True)
    config = _config(renamed, str(settings["img_range"]))
    assert config is not None, "only called where _matches"
    if config.window < 2:
        raise ArchitectureError("windows of 1 px")
    receptive_field = config.receptive_field_px
    return Generator(
        network=load(SwinIr(config), renamed),
        task=Task.SUPER_RESOLUTION,
        hyperparameters={
            "embed_dim": config.width,
            "depths": " ".join(map(str, config.depths)),
            "num_heads": " ".join(map(str, config.heads)),
            "window_size": config.window,
            "mlp_ratio": config.hidden / config.width,
            "upsampler": config.head.kind,
            "resi_connection": "3conv" if config.three_convs else "1conv",
            "upscale": config.scale,
            "img_range": config.img_range,
            "channels": config.channels,
        },
        channels=config.channels,
        output_range=(0.0, 1.0),
        max_batch_size=2,
        scale=config.scale,
        least_px=config.multiple_px // 2 + 1,
        tile=Tiling(
            size_px=TILE_PX,
            overlap_px=min(OVERLAP_PX, receptive_field),
            multiple_px=config.multiple_px,
            receptive_field_px=receptive_field,
            max_seam_levels=MAX_SEAM_LEVELS,
        ),
    )


ARCHITECTURE = Architecture(
    name="swinir",
    reference="JingyunLiang/SwinIR, also as KAIR and neosr train it",
    matches=_matches,
    build=_build,
    settings={"img_range": IMG_RANGE},
    relative=_relative,
)
