"""SPAN: Wan, Yu, Fan, Zou, Zhu, Yang, "Swift Parameter-free Attention Network for Efficient Super-Resolution", 2023,
arXiv:2311.12770.

Reads the checkpoints of hongyuanyu/SPAN, as neosr and traiNNer-redux train it too: `block_<b>.c<k>_r`, each a chain of
convs 1x1, 3x3, 1x1 beside a 1x1, which is one 3x3 conv. Difference: the chains are added up once, here; the reference
does so at every evaluation. `eval_conv` in a file is what was last added up, often long before the weights were saved,
so it counts only where there is no chain.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict, Tiling
from models.families.superres.heads import scale_and_channels
from models.state_dict import load, shape

BLOCKS = 6
MEAN = (0.4488, 0.4371, 0.4040)
# conv_1, three a block, conv_2, the one before the pixel shuffle.
CONVS = 3 * BLOCKS + 3
CHAIN = ("conv.0", "conv.1", "conv.2", "sk")
KINDS = ("weight", "bias")
IMG_RANGE = Setting(255.0, "what the image is multiplied by once its mean is off; nothing if the file has `no_norm`")


@dataclass(frozen=True)
class SpanConfig:
    """What sets one SPAN apart from another. `range`: of the shifted image, 0 if it is not shifted."""

    channels: int
    out_channels: int
    features: int
    scale: int
    range: float


class Block(nn.Module):
    """Three 3x3 convs; their result, with the input added, weighed by how far each value is from 0."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.c1_r = nn.Conv2d(features, features, 3, 1, 1)
        self.c2_r = nn.Conv2d(features, features, 3, 1, 1)
        self.c3_r = nn.Conv2d(features, features, 3, 1, 1)

    def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(what it gives, its first conv's activated maps), both (N, features, H, W) float32 as `maps`."""
        first = nn.functional.silu(self.c1_r(maps))
        last = self.c3_r(nn.functional.silu(self.c2_r(first)))
        return (last + maps) * (torch.sigmoid(last) - 0.5), first


class Span(nn.Module):
    """The whole network, its chains of convs added up."""

    mean: torch.Tensor

    def __init__(self, config: SpanConfig) -> None:
        super().__init__()
        self.config = config
        features = config.features
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.conv_1 = nn.Conv2d(config.channels, features, 3, 1, 1)
        self.block_names = [f"block_{index}" for index in range(1, BLOCKS + 1)]
        for name in self.block_names:
            self.add_module(name, Block(features))
        self.conv_2 = nn.Conv2d(features, features, 3, 1, 1)
        self.conv_cat = nn.Conv2d(4 * features, features, 1)
        conv = nn.Conv2d(features, config.out_channels * config.scale**2, 3, 1, 1)
        self.upsampler = nn.Sequential(conv, nn.PixelShuffle(config.scale))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, scale*H, scale*W) float32, about [0, 1] but unbounded, from `image` (N, C, H, W) float32 in [0, 1]."""
        if self.config.range:
            image = (image - self.mean) * self.config.range
        first = self.conv_1(image)
        maps, after = first, []
        for name in self.block_names:
            maps, inner = self.get_submodule(name)(maps)
            after.append(maps)
        joined = self.conv_cat(torch.cat((first, self.conv_2(maps), after[0], inner), dim=1))
        output: torch.Tensor = self.upsampler(joined)
        return output


def _chains() -> Iterator[str]:
    """The names of the layers that are chains in training."""
    yield "conv_1"
    yield from (f"block_{block}.c{conv}_r" for block in range(1, BLOCKS + 1) for conv in (1, 2, 3))
    yield "conv_2"


def _added_up(state: StateDict, name: str) -> dict[str, torch.Tensor] | None:
    """Weight and bias of the 3x3 conv that the layer is, None if it is none.

    The first conv's bias is on the padded border too, so all nine taps of the second see it: a constant.
    """
    if f"{name}.sk.weight" not in state:
        return {key: state[f"{name}.eval_conv.{key}"] for key in KINDS if f"{name}.eval_conv.{key}" in state}
    layers = [f"{name}.{layer}" for layer in CHAIN]
    (inner, ins, *_), (middle, *_), (outs, *_), _ = (shape(state, f"{layer}.weight", 4) for layer in layers)
    sizes = ((inner, ins, 1, 1), (middle, inner, 3, 3), (outs, middle, 1, 1), (outs, ins, 1, 1))
    for layer, size in zip(layers, sizes, strict=True):
        if shape(state, f"{layer}.weight", 4) != size or shape(state, f"{layer}.bias", 1) != size[:1]:
            return None
    (w0, w1, w2, skip), (b0, b1, b2, skipped) = (
        [state[f"{layer}.{kind}"].double() for layer in layers] for kind in KINDS
    )
    w0, w2 = w0[..., 0, 0], w2[..., 0, 0]
    weight = torch.einsum("om,mnyx,ni->oiyx", w2, w1, w0)
    weight[:, :, 1, 1] += skip[..., 0, 0]
    bias = w2 @ (w1.sum(dim=(2, 3)) @ b0 + b1) + b2 + skipped
    return {"weight": weight.float(), "bias": bias.float()}


def _plain(state: StateDict) -> dict[str, torch.Tensor] | None:
    """The weights under this module's names; None if they are not a SPAN's."""
    found = {key: state[key] for key in state if key.startswith(("conv_cat.", "upsampler.0."))}
    used = {*found, "no_norm"}
    for name in _chains():
        conv = _added_up(state, name)
        if not conv:
            return None
        found |= {f"{name}.{key}": tensor for key, tensor in conv.items()}
        layers = ("eval_conv", *(CHAIN if f"{name}.sk.weight" in state else ()))
        used |= {f"{name}.{layer}.{kind}" for layer in layers for kind in KINDS}
    return found if used.issuperset(state) else None


def _config(state: StateDict, plain: StateDict, img_range: float) -> SpanConfig | None:
    """What the shapes say; None if the ends do not fit each other."""
    features, channels, *kernel = shape(plain, "conv_1.weight", 4)
    maps, before, *_ = shape(plain, "upsampler.0.weight", 4)
    found = scale_and_channels(maps, channels) if channels else None
    joins = shape(plain, "conv_cat.weight", 4) == (features, 4 * features, 1, 1)
    if found is None or not joins or before != features or kernel != [3, 3]:
        return None
    return SpanConfig(channels, found[1], features, found[0], 0.0 if "no_norm" in state else img_range)


def _matches(state: StateDict) -> bool:
    if "conv_cat.weight" not in state or "upsampler.0.weight" not in state:
        return False
    plain = _plain(state)
    return plain is not None and _config(state, plain, 1.0) is not None


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    plain, img_range = _plain(state), float(settings["img_range"])
    assert plain is not None, "only called where _matches"
    config = _config(state, plain, img_range)
    assert config is not None, "only called where _matches"
    if not config.range and img_range != IMG_RANGE.default:
        raise ArchitectureError(f"img_range={img_range:g}: the file has `no_norm`, so the image is taken as it is")
    if config.range and config.channels != len(MEAN):
        raise ArchitectureError(
            f"takes {config.channels} channel(s) and has no `no_norm`, so 3 means would be taken off; the training "
            "code cannot run such a network either"
        )
    return Generator(
        network=load(Span(config), plain),
        task=Task.SUPER_RESOLUTION,
        hyperparameters={
            "feature_channels": config.features,
            "upscale": config.scale,
            "in_channels": config.channels,
            "out_channels": config.out_channels,
            "norm": bool(config.range),
        },
        channels=config.out_channels,
        input_channels=config.channels,
        output_range=(0.0, 1.0),
        max_batch_size=8,
        scale=config.scale,
        settled=() if config.range else ("img_range",),
        tile=Tiling(size_px=256, overlap_px=CONVS, multiple_px=1, receptive_field_px=CONVS),
    )


ARCHITECTURE = Architecture(
    name="span",
    reference="hongyuanyu/SPAN, also as neosr and traiNNer-redux train it",
    matches=_matches,
    build=_build,
    settings={"img_range": IMG_RANGE},
)
