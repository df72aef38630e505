"""What image-to-image networks of the field share: norms, residual blocks, blur-pool resampling, and a residual
translator with its layers.

After Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", 2016,
arXiv:1603.08155; blur-pool after Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019, arXiv:1904.11486.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from models.architecture import Setting, StateDict

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
NORM_STATISTICS = Setting(
    "stored",
    "batch norm by the stored statistics (eval mode), or by each image's own, as test scripts without eval() do",
    ("stored", "picture"),
)


def norm(kind: str, channels: int) -> nn.Module:
    """A norm: batch; instance (no weights); picture (batch norm's weights, each image's own statistics); or none."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "none":
        return nn.Identity()
    return nn.InstanceNorm2d(channels, affine=kind == "picture")


def without_unused_statistics(state: StateDict) -> StateDict:
    """`state` without running statistics of norms that have no weight.

    InstanceNorm tracked them until 2018; nothing was ever normalised by them.
    """
    return {
        key: tensor
        for key, tensor in state.items()
        if not key.endswith(STATISTICS) or f"{key.rpartition('.')[0]}.weight" in state
    }


def without_statistics(state: StateDict) -> StateDict:
    """`state` without any running statistics, for a network whose norms are of kind `picture`."""
    return {key: tensor for key, tensor in state.items() if not key.endswith(STATISTICS)}


def holds(make: Callable[[], nn.Module], state: StateDict) -> bool:
    """Whether `state` has exactly the names and shapes of the network that `make` makes; counters may be absent."""
    with torch.device("meta"):
        own = {key: tensor.shape for key, tensor in make().state_dict().items()}
    needed = {key for key in own if not key.endswith("num_batches_tracked")}
    return needed <= set(state) <= set(own) and all(tensor.shape == own[key] for key, tensor in state.items())


class ResidualBlock(nn.Module):
    """Two 3x3 convs on reflected borders, added to the input; dropout between them shifts the second conv's name."""

    def __init__(self, channels: int, kind: str, biased: bool, dropout: bool) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=biased),
            norm(kind, channels),
            nn.ReLU(),
            *([nn.Dropout(0.5)] if dropout else []),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=biased),
            norm(kind, channels),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) float32 from the same; H and W at least 2."""
        change: torch.Tensor = self.conv_block(maps)
        return maps + change


class BlurDown(nn.Module):
    """Halves H and W: each map by the 3x3 kernel that the checkpoint carries, borders reflected."""

    filt: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", binomial((1.0, 2.0, 1.0), channels))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, ceil(H/2), ceil(W/2)) float32."""
        return F.conv2d(F.pad(maps, (1, 1, 1, 1), mode="reflect"), self.filt, stride=2, groups=len(self.filt))


class BlurUp(nn.Module):
    """Doubles H and W: zeros between the pixels, then the 4x4 kernel that the checkpoint carries; borders repeated.

    The transposed conv writes pixel i at rows 2i to 2i+3; what is kept begins where the first pixel that is no padding
    shares its row with its neighbour: row 3, and 2H rows of it.
    """

    filt: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", binomial((1.0, 3.0, 3.0, 1.0), channels) * 4)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, 2H, 2W) float32."""
        padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
        return F.conv_transpose2d(padded, self.filt, stride=2, padding=3, groups=len(self.filt))


def binomial(row: tuple[float, ...], channels: int) -> torch.Tensor:
    """The kernel row x row with sum 1, once a channel: (channels, 1, k, k) float32."""
    taps = torch.tensor(row)
    kernel = torch.outer(taps, taps)
    return (kernel / kernel.sum()).repeat(channels, 1, 1, 1)


@dataclass(frozen=True)
class ResnetConfig:
    """A residual translator: 7x7 conv, `halvings` halvings, `blocks` blocks, as many doublings, 7x7 conv, tanh.

    `width` is the first conv's maps, `kind` the norm's, `biased` whether convs before a norm have biases, `padding` the
    reflected border of the 7x7 convs. Halving is a strided conv, or a conv and a blur; doubling a transposed conv
    ("transposed"), blur and conv ("blur"), or nearest and conv ("nearest").
    """

    inputs: int
    outputs: int
    width: int
    blocks: int
    kind: str
    biased: bool
    halvings: int = 2
    dropout: bool = False
    blurred_halving: bool = False
    doubling: str = "transposed"
    padding: int = 3

    def descending(self) -> list[nn.Module]:
        """The 7x7 conv and the halvings."""
        pad = nn.ReflectionPad2d(self.padding)
        layers = [pad, nn.Conv2d(self.inputs, self.width, 7, bias=self.biased), *self._finish(self.width)]
        for step in range(self.halvings):
            before, after = self.width << step, self.width << step + 1
            stride = 1 if self.blurred_halving else 2
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=self.biased), *self._finish(after)]
            layers += [BlurDown(after)] if self.blurred_halving else []
        return layers

    def residual(self) -> list[nn.Module]:
        """The blocks, at the smallest size."""
        channels = self.width << self.halvings
        return [ResidualBlock(channels, self.kind, self.biased, self.dropout) for _ in range(self.blocks)]

    def ascending(self) -> list[nn.Module]:
        """The doublings."""
        layers: list[nn.Module] = []
        for step in reversed(range(self.halvings)):
            layers += [*self._double(self.width << step + 1, self.width << step), *self._finish(self.width << step)]
        return layers

    def final(self) -> list[nn.Module]:
        """The last 7x7 conv and tanh."""
        return [nn.ReflectionPad2d(self.padding), nn.Conv2d(self.width, self.outputs, 7), nn.Tanh()]

    def _double(self, before: int, after: int) -> list[nn.Module]:
        if self.doubling == "transposed":
            return [nn.ConvTranspose2d(before, after, 3, 2, 1, output_padding=1, bias=self.biased)]
        larger = BlurUp(before) if self.doubling == "blur" else nn.Upsample(scale_factor=2)
        return [larger, nn.Conv2d(before, after, 3, 1, 1, bias=self.biased)]

    def _finish(self, channels: int) -> list[nn.Module]:
        return [norm(self.kind, channels), nn.ReLU()]


class ResnetTranslator(nn.Module):
    """The whole network."""

    def __init__(self, config: ResnetConfig) -> None:
        super().__init__()
        layers = [*config.descending(), *config.residual(), *config.ascending(), *config.final()]
        self.model = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, outputs, H, W) float32 in [-1, 1] from `image` (N, inputs, H, W) float32; H and W multiples of
        2^halvings, twice that at least.
        """
        output: torch.Tensor = self.model(image)
        return output


def block_indices(state: StateDict, prefix: str = "model.", name: str = ".conv_block.") -> list[int]:
    """The places of the residual blocks in the Sequential `prefix`, ascending."""
    blocks = [key for key in state if key.startswith(prefix) and name in key]
    return sorted({int(place) for key in blocks if (place := key.removeprefix(prefix).split(".")[0]).isdigit()})


def last_index(state: StateDict, prefix: str = "model.") -> int:
    """The highest place in the Sequential `prefix` that has tensors; 0 if there is none."""
    places = [key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)]
    return max((int(place) for place in places if place.isdigit()), default=0)
