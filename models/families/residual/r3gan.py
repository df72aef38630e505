"""R3GAN: Huang, Gokaslan, Kuleshov, Tompkin, "The GAN is dead; long live the GAN! A Modern GAN Baseline", 2025,
arXiv:2501.05441.

Reads brownvc/R3GAN's `network-snapshot-<kimg>.pkl`, plain pickles of whole networks, of which G_ema is used. Stages of
residual blocks without norms, 4 px to the image; label by an embedding that is appended to the latent.
Differences: everything is computed in float32 (the last stages were trained in bfloat16). Widths, blocks, groups and
the kernel that doubles the maps are read from the weights.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, StateDict
from models.state_dict import Rules, count, load, rename, shape

PREFIX = "Model."
SLOPE = 0.2
RULES: Rules = {
    r"EmbeddingLayer\.weight": "embedding",
    r"MainLayers\.0\.Layers\.0\.Basis": "basis",
    r"MainLayers\.0\.Layers\.0\.LinearLayer\.weight": "linear.weight",
    r"MainLayers\.(\d+)\.Layers\.0\.Resampler\.Kernel": r"doublings.\1.kernel",
    r"MainLayers\.(\d+)\.Layers\.0\.LinearLayer\.Layer\.weight": r"doublings.\1.conv.weight",
    r"MainLayers\.(\d+)\.Layers\.(\d+)\.LinearLayer(\d)\.Layer\.weight": r"blocks.\1-\2.conv\3.weight",
    r"MainLayers\.(\d+)\.Layers\.(\d+)\.NonLinearity(\d)\.Bias": r"blocks.\1-\2.bias\3",
    r"AggregationLayer\.Layer\.weight": "last.weight",
}


@dataclass(frozen=True)
class R3ganConfig:
    """`widths` and `groups` of each stage's maps, the 4 px one first, `blocks` in each; `embedded` 0: no classes."""

    latent: int
    embedded: int
    classes: int
    widths: tuple[int, ...]
    inner: tuple[int, ...]
    groups: tuple[int, ...]
    blocks: tuple[int, ...]
    channels: int


class Block(nn.Module):
    """1x1 conv to the inner width, grouped 3x3 conv, 1x1 conv back, added to the input; no norm, no conv biases."""

    def __init__(self, width: int, inner: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 1, bias=False)
        self.conv2 = nn.Conv2d(inner, inner, 3, 1, 1, groups=groups, bias=False)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        self.bias1 = nn.Parameter(torch.zeros(inner))
        self.bias2 = nn.Parameter(torch.zeros(inner))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) float32 from the same."""
        inner = F.leaky_relu(self.conv1(maps) + self.bias1[:, None, None], SLOPE)
        inner = F.leaky_relu(self.conv2(inner) + self.bias2[:, None, None], SLOPE)
        change: torch.Tensor = self.conv3(inner)
        return maps + change


class Doubling(nn.Module):
    """A 1x1 conv where the width changes, then twice the size: zeros between and around the pixels, then the kernel."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 1, bias=False) if before != after else None
        self.kernel = nn.Parameter(torch.zeros(4, 4))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, after, 2H, 2W) float32."""
        maps = maps if self.conv is None else self.conv(maps)
        channels = maps.shape[1]
        kernels = (4 * self.kernel).expand(channels, 1, 4, 4)
        return F.conv_transpose2d(maps, kernels, stride=2, padding=1, groups=channels)


class R3ganGenerator(nn.Module):
    """Stages of blocks from a learned 4x4 map, scaled by the latent, up to the image."""

    def __init__(self, config: R3ganConfig) -> None:
        super().__init__()
        entered = config.latent + config.embedded
        self.embedding = nn.Parameter(torch.zeros(config.embedded, config.classes)) if config.classes else None
        self.basis = nn.Parameter(torch.zeros(config.widths[0], 4, 4))
        self.linear = nn.Linear(entered, config.widths[0], bias=False)
        stages = range(len(config.widths))
        self.doublings = nn.ModuleDict({str(i): Doubling(*config.widths[i - 1 : i + 1]) for i in stages[1:]})
        self.blocks = nn.ModuleDict(
            {
                f"{i}-{j}": Block(config.widths[i], config.inner[i], config.groups[i])
                for i in stages
                for j in range(1, config.blocks[i] + 1)
            }
        )
        self.last = nn.Conv2d(config.widths[-1], config.channels, 1, bias=False)

    def forward(self, latent: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """Images (N, C, H, W) float32, nominally in [-1, 1], from `latent` (N, Z) and, with classes, `label` (N,)."""
        if self.embedding is not None and label is not None:
            latent = torch.cat([latent, F.embedding(label, self.embedding.t())], dim=1)
        maps = self.basis * self.linear(latent)[:, :, None, None]
        stage = "0"
        for name, block in self.blocks.items():
            if (found := name.partition("-")[0]) != stage:
                stage = found
                maps = self.doublings[stage](maps)
            maps = block(maps)
        image: torch.Tensor = self.last(maps)
        return image


def _own(state: StateDict) -> dict[str, torch.Tensor]:
    """The state without the `Model.` before every key; empty where it has no such keys."""
    own = {key.removeprefix(PREFIX): tensor for key, tensor in state.items()}
    return own if shape(own, "MainLayers.0.Layers.0.Basis", 3)[1:] == (4, 4) else {}


def _shapes(own: StateDict, name: str) -> Sequence[tuple[int, ...]]:
    """The shapes of a tensor of each stage's first block."""
    stages = count(own, "MainLayers")
    return [shape(own, f"MainLayers.{stage}.Layers.1.{name}", 4) for stage in range(stages)]


def _config(own: StateDict) -> R3ganConfig:
    embedded, classes = shape(own, "EmbeddingLayer.weight", 2)
    inner = [size[0] for size in _shapes(own, "LinearLayer2.Layer.weight")]
    each = [size[1] for size in _shapes(own, "LinearLayer2.Layer.weight")]
    return R3ganConfig(
        latent=shape(own, "MainLayers.0.Layers.0.LinearLayer.weight", 2)[1] - embedded,
        embedded=embedded,
        classes=classes,
        widths=tuple(size[1] for size in _shapes(own, "LinearLayer1.Layer.weight")),
        inner=tuple(inner),
        groups=tuple(width // max(1, of) for width, of in zip(inner, each, strict=True)),
        blocks=tuple(count(own, f"MainLayers.{stage}.Layers") - 1 for stage in range(len(inner))),
        channels=shape(own, "AggregationLayer.Layer.weight", 4)[0],
    )


def _matches(state: StateDict) -> bool:
    own = _own(state)
    last = shape(own, "AggregationLayer.Layer.weight", 4)
    if not own or not last[1] or len(rename(own, RULES, strict=True)) != len(own):
        return False
    config = _config(own)
    return config.latent > 0 and all(config.widths) and all(config.groups) and last[1] == config.widths[-1]


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    own = _own(state)
    config = _config(own)
    side_px = 4 * 2 ** (len(config.widths) - 1)
    found: dict[str, Scalar] = {
        "z_dim": config.latent,
        "img_resolution": side_px,
        "img_channels": config.channels,
        "widths": ",".join(map(str, config.widths)),
        "groups": ",".join(map(str, config.groups)),
        "blocks": ",".join(map(str, config.blocks)),
    }
    return Generator(
        network=load(R3ganGenerator(config), rename(own, RULES)),
        task=Task.CLASS_CONDITIONAL if config.classes else Task.UNCONDITIONAL,
        hyperparameters=found | ({"c_dim": config.classes} if config.classes else {}),
        channels=config.channels,
        output_range=(-1.0, 1.0),
        max_batch_size=16,
        image_size_px=(side_px, side_px),
        latent_size=config.latent,
        classes=config.classes,
    )


def _relative(state: StateDict) -> str | None:
    if any(re.match(r"(Model\.)?ExtractionLayer\.Layer\.weight", key) for key in state):
        return "an R3GAN discriminator (ExtractionLayer), not the generator"
    return None


ARCHITECTURE = Architecture(
    name="r3gan",
    reference="brownvc/R3GAN",
    matches=_matches,
    build=_build,
    relative=_relative,
)
