"""U-GAT-IT: Kim, Kim, Kang, Lee, "U-GAT-IT: Unsupervised Generative Attentional Networks with Adaptive Layer-Instance
Normalization for Image-to-Image Translation", 2019, arXiv:1907.10830.

Reads znxlwm/UGATIT-pytorch's `<set>_params_<iteration>.pt`: both directions, of which `--key genA2B` or `--key genB2A`
says one, and their discriminators. Norms take their statistics from the whole picture, so it is never cut into tiles.
The light network (`--light True`) takes any size; the full one feeds every pixel of its maps to a linear layer, and so
takes pictures of one size only.
Differences: at inference only the weighting of the class activation map counts, so its two logits are left out.
"""

from collections.abc import Mapping
from math import isqrt

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, StateDict
from models.families.translation.translator_layers import ResidualBlock, holds
from models.state_dict import load, shape

HALVINGS = 2
EPS = 1e-5
FIRST_BLOCK = 12  # its place in DownBlock


def _normed(maps: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """Less their mean, divided by their standard deviation over these axes, N - 1 in its place as torch.var has it."""
    centred = maps - maps.mean(axes, keepdim=True)
    count = maps.shape[2] * maps.shape[3] * (maps.shape[1] if 1 in axes else 1)
    variance = centred.square().sum(axes, keepdim=True) / (count - 1)
    return centred / (variance + EPS).sqrt()


class MixedNorm(nn.Module):
    """Instance norm and layer norm, mixed by `rho` for each channel; scale and shift are its own or come in."""

    def __init__(self, channels: int, own: bool) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.zeros(1, channels, 1, 1))
        if own:
            self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
            self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(
        self, maps: torch.Tensor, gamma: torch.Tensor | None = None, beta: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(N, C, H, W) float32; `gamma` and `beta` (N, C, 1, 1) where they are not its own."""
        mixed = self.rho * _normed(maps, (2, 3)) + (1 - self.rho) * _normed(maps, (1, 2, 3))
        scale, shift = (self.gamma, self.beta) if gamma is None or beta is None else (gamma, beta)
        return mixed * scale + shift


class AdaptiveBlock(nn.Module):
    """Two 3x3 convs on reflected borders with mixed norms, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, bias=False)
        self.norm1 = MixedNorm(channels, own=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, bias=False)
        self.norm2 = MixedNorm(channels, own=False)

    def forward(self, maps: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) float32; `gamma` and `beta` (N, C, 1, 1)."""
        changed = torch.relu(self.norm1(self.conv1(_bordered(maps)), gamma, beta))
        change: torch.Tensor = self.norm2(self.conv2(_bordered(changed)), gamma, beta)
        return maps + change


def _bordered(maps: torch.Tensor) -> torch.Tensor:
    return F.pad(maps, (1, 1, 1, 1), mode="reflect")


class UgatitGenerator(nn.Module):
    """Encoder, attention by channel, adaptive blocks, decoder.

    Args:
        channels: of the images.
        width: of the outermost maps.
        blocks: in the encoder, and adaptive ones in the decoder.
        entered: what the first linear layer takes: the maps' means, or all their pixels.
    """

    def __init__(self, channels: int, width: int, blocks: int, entered: int) -> None:
        super().__init__()
        inner = width << HALVINGS
        self.light, self.blocks = entered == inner, blocks
        down: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7, bias=False), *_finished(width)]
        for step in range(HALVINGS):
            conv = nn.Conv2d(width << step, width << step + 1, 3, 2, bias=False)
            down += [nn.ReflectionPad2d(1), conv, *_finished(width << step + 1)]
        down += [ResidualBlock(inner, "instance", biased=False, dropout=False) for _ in range(blocks)]
        self.DownBlock = nn.Sequential(*down)
        self.gap_fc, self.gmp_fc = (nn.Linear(inner, 1, bias=False) for _ in range(2))
        self.conv1x1 = nn.Conv2d(2 * inner, inner, 1)
        first = nn.Linear(entered, inner, bias=False)
        self.FC = nn.Sequential(first, nn.ReLU(), nn.Linear(inner, inner, bias=False), nn.ReLU())
        self.gamma, self.beta = (nn.Linear(inner, inner, bias=False) for _ in range(2))
        for place in range(1, blocks + 1):
            self.add_module(f"UpBlock1_{place}", AdaptiveBlock(inner))
        up: list[nn.Module] = []
        for step in reversed(range(HALVINGS)):
            after = width << step
            conv = nn.Conv2d(2 * after, after, 3, bias=False)
            up += [nn.Upsample(scale_factor=2.0), nn.ReflectionPad2d(1), conv, MixedNorm(after, own=True), nn.ReLU()]
        final = nn.Conv2d(width, channels, 7, bias=False)
        self.UpBlock2 = nn.Sequential(*up, nn.ReflectionPad2d(3), final, nn.Tanh())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) float32 in [-1, 1] from the same; H and W multiples of 4."""
        maps = self.DownBlock(image)
        weighted = [maps * linear.weight[:, :, None, None] for linear in (self.gap_fc, self.gmp_fc)]
        maps = torch.relu(self.conv1x1(torch.cat(weighted, dim=1)))
        style = self.FC(maps.mean((2, 3)) if self.light else maps.flatten(1))
        gamma, beta = (linear(style)[:, :, None, None] for linear in (self.gamma, self.beta))
        for place in range(1, self.blocks + 1):
            maps = self.get_submodule(f"UpBlock1_{place}")(maps, gamma, beta)
        translated: torch.Tensor = self.UpBlock2(maps)
        return translated


def _finished(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels), nn.ReLU()]


def _network(state: StateDict) -> UgatitGenerator | None:
    """The network of these shapes, untrained; None if they are none."""
    first, entered = shape(state, "DownBlock.1.weight", 4), shape(state, "FC.0.weight", 2)[1]
    blocks = sum(f"DownBlock.{place}.conv_block.1.weight" in state for place in range(FIRST_BLOCK, len(state)))
    if not first[0] or not blocks or not entered:
        return None
    with torch.device("meta"):
        return UgatitGenerator(first[1], first[0], blocks, entered)


def _side_px(network: UgatitGenerator, entered: int, width: int) -> int:
    """The only side of a picture that the network takes; 0: any."""
    if network.light:
        return 0
    return isqrt(entered // (width << HALVINGS)) << HALVINGS


def _matches(state: StateDict) -> bool:
    network = _network(state)
    return network is not None and holds(lambda: network, state)


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    meta = _network(state)
    assert meta is not None, "only called where _matches"
    (width, channels), entered = state["DownBlock.1.weight"].shape[:2], state["FC.0.weight"].shape[1]
    side_px = _side_px(meta, entered, width)
    found: dict[str, Scalar] = {"img_ch": channels, "ch": width, "n_res": meta.blocks, "light": meta.light}
    return Generator(
        network=load(UgatitGenerator(channels, width, meta.blocks, entered), state),
        task=Task.IMAGE_TO_IMAGE,
        hyperparameters=found | ({"img_size": side_px} if side_px else {}),
        channels=channels,
        output_range=(-1.0, 1.0),
        max_batch_size=4,
        image_size_px=(side_px, side_px),
        input_range=(-1.0, 1.0),
        input_channels=channels,
        multiple_px=2**HALVINGS,
        least_px=2 ** (HALVINGS + 1),  # a border of one pixel is reflected at a quarter of the size
    )


def _relative(state: StateDict) -> str | None:
    if any(key.startswith("gap_fc.weight") for key in state) and not any(key.startswith("UpBlock") for key in state):
        return "a U-GAT-IT discriminator (disGA, disGB, disLA, disLB), not a generator (genA2B, genB2A)"
    return None


ARCHITECTURE = Architecture(
    name="ugatit",
    reference="znxlwm/UGATIT-pytorch",
    matches=_matches,
    build=_build,
    relative=_relative,
)
