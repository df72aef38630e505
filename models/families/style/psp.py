"""Encoders of images into a StyleGAN's w: pixel2style2pixel's GradualStyleEncoder and Encoder4Editing.

Richardson, Alaluf, Patashnik, Nitzan, Azar, Shapiro, Cohen-Or, "Encoding in Style: a StyleGAN Encoder for
Image-to-Image Translation", 2020, arXiv:2008.00951 (eladrich/pixel2style2pixel). Tov, Alaluf, Nitzan, Patashnik,
Cohen-Or, "Designing an Encoder for StyleGAN Image Manipulation", 2021, arXiv:2102.02766 (omertov/encoder4editing).

Both have one network, an IR-SE50 (Hu et al. 2017, arXiv:1709.01507; Deng et al. 2018, arXiv:1801.07698) as a feature
pyramid with a head for each layer of w, and save it under the same keys. They differ in what the heads give: the layer
itself, or for all but the first the difference from it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.state_dict import load, shape

GROUPS = (3, 4, 14, 3)  # blocks of one width; the first one of each halves the image
TAPS = (6, 20, 23)  # blocks whose maps the pyramid takes
COARSE, MIDDLE = 3, 7  # the first layer of w that is made from the second, and the third, map
STRIDE = 16  # of the whole body
PSP, E4E = "GradualStyleEncoder", "Encoder4Editing"
MEAN = "latent_avg"
SETTINGS = {
    "encoder_type": Setting("", "which of the two networks with these keys; `opts` in the file says it", (PSP, E4E)),
    "start_from_latent_avg": Setting(
        "true", "whether the file's mean w is added; `opts` in the file says it", ("true", "false")
    ),
}


@dataclass(frozen=True)
class EncoderConfig:
    """`widths`: channels of the input layer, then of each group; the last is also w's length. `pools`: how often a
    coarse head halves its map."""

    channels: int
    widths: tuple[int, ...]
    squeezed: tuple[int, ...]
    layers: int
    pools: int

    @property
    def size_px(self) -> int:
        """Height and width of an image."""
        return STRIDE << self.pools


class SqueezeExcite(nn.Module):
    """Scales channels by what the whole map is like."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.fc2 = nn.Conv2d(inner, channels, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W)."""
        scale: Tensor = torch.sigmoid(self.fc2(functional.relu(self.fc1(maps.mean((2, 3), keepdim=True)))))
        return maps * scale


class Block(nn.Module):
    """A residual block of IR-SE50; where the width stays, the shortcut is every `stride`-th pixel."""

    def __init__(self, inner: int, outer: int, squeezed: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.shortcut_layer = nn.Sequential()
        if inner != outer:
            self.shortcut_layer = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inner),
            nn.Conv2d(inner, outer, 3, 1, 1, bias=False),
            nn.PReLU(outer),
            nn.Conv2d(outer, outer, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outer),
            SqueezeExcite(outer, squeezed),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(N, outer, H / stride, W / stride)."""
        short = self.shortcut_layer(maps) if len(self.shortcut_layer) else maps[:, :, :: self.stride, :: self.stride]
        out: Tensor = short + self.res_layer(maps)
        return out


class EqualLinear(nn.Module):
    """A linear layer whose weights are divided by the root of their number at run time."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size, size))
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, values: Tensor) -> Tensor:
        """(N, size)."""
        return functional.linear(values, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


class Head(nn.Module):
    """One layer of w from a map of 2^pools pixels a side."""

    def __init__(self, size: int, pools: int) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for _ in range(pools):
            steps += [nn.Conv2d(size, size, 3, 2, 1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*steps)
        self.linear = EqualLinear(size)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, size)."""
        layer: Tensor = self.linear(self.convs(maps).flatten(1))
        return layer


class StyleEncoder(nn.Module):
    """Image (N, 3, H, W) in [-1, 1] -> w (N, layers, length), the mean w added."""

    mean: Tensor

    def __init__(self, config: EncoderConfig, is_relative: bool) -> None:
        super().__init__()
        first, *widths = config.widths
        length = widths[-1]
        self.input_layer = nn.Sequential(
            nn.Conv2d(config.channels, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        blocks, inner = [], first
        for outer, squeezed, count in zip(widths, config.squeezed, GROUPS, strict=True):
            for number in range(count):
                blocks.append(Block(inner, outer, squeezed, 1 if number else 2))
                inner = outer
        self.body = nn.Sequential(*blocks)
        self.styles = nn.ModuleList(
            Head(length, config.pools + (layer >= COARSE) + (layer >= MIDDLE)) for layer in range(config.layers)
        )
        self.latlayer1 = nn.Conv2d(widths[2], length, 1)
        self.latlayer2 = nn.Conv2d(widths[1], length, 1)
        self.register_buffer("mean", torch.zeros(config.layers, length), persistent=False)
        self.is_relative = is_relative

    def forward(self, image: Tensor) -> Tensor:
        """w (N, layers, length)."""
        maps, taps = self.input_layer(image), []
        for number, block in enumerate(self.body):
            maps = block(maps)
            if number in TAPS:
                taps.append(maps)
        fine, middle, coarse = taps
        middle = _upsampled(coarse, middle) + self.latlayer1(middle)
        fine = _upsampled(middle, fine) + self.latlayer2(fine)
        layers = [
            head(coarse if number < COARSE else middle if number < MIDDLE else fine)
            for number, head in enumerate(self.styles)
        ]
        if self.is_relative:
            layers = [layers[0], *(layers[0] + layer for layer in layers[1:])]
        return torch.stack(layers, 1) + self.mean


def _upsampled(maps: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(maps, size=like.shape[2:], mode="bilinear", align_corners=True)


def read_config(state: StateDict) -> EncoderConfig | None:
    """What the keys and shapes of an encoder tell; None if they are not exactly its."""
    first, channels = shape(state, "input_layer.0.weight", 4)[:2]
    starts = [sum(GROUPS[:group]) for group in range(len(GROUPS))]
    widths = tuple(shape(state, f"body.{start}.res_layer.1.weight", 4)[0] for start in starts)
    squeezed = tuple(shape(state, f"body.{start}.res_layer.5.fc1.weight", 4)[0] for start in starts)
    layers = len({key.split(".")[1] for key in state if key.startswith("styles.")})
    pools = sum(key.startswith("styles.0.convs.") and key.endswith(".weight") for key in state)
    if not (first and channels and all(widths) and all(squeezed) and layers > 1 and 0 < pools < 8):
        return None
    config = EncoderConfig(channels, (first, *widths), squeezed, layers, pools)
    with torch.device("meta"):
        expected = {key: tensor.shape for key, tensor in StyleEncoder(config, False).state_dict().items()}
    own = {key: tensor.shape for key, tensor in state.items() if key != MEAN}
    absent = {key for key in expected if key.endswith("num_batches_tracked") and key not in own}
    mean = state.get(MEAN)
    fits = mean is None or mean.numel() in (widths[-1], layers * widths[-1])
    return config if fits and own == {key: size for key, size in expected.items() if key not in absent} else None


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    config = read_config(state)
    assert config is not None, "only called where it matches"
    kind, adds_mean = str(settings["encoder_type"]), settings["start_from_latent_avg"] == "true"
    if config.channels != 3:
        raise ArchitectureError(
            f"the encoder takes images of {config.channels} channels; those of RGB images are exported. "
            "The generator in its file is: --key decoder"
        )
    if kind not in (PSP, E4E):
        raise ArchitectureError(
            f"the file does not say which network it is{f' that is exported, but {kind}' if kind else ''}; "
            f"--set encoder_type={PSP} (pSp) or {E4E} (e4e)"
        )
    if adds_mean and MEAN not in state:
        raise ArchitectureError(
            f"the file has no {MEAN}, which is to be added; --set start_from_latent_avg=false if it was trained without"
        )
    network = StyleEncoder(config, kind == E4E)
    load(network, {key: tensor for key, tensor in state.items() if key != MEAN})
    length = config.widths[-1]
    if adds_mean:
        network.mean.copy_(state[MEAN].reshape(-1, length))
    return Generator(
        network=network,
        task=Task.ENCODER,
        hyperparameters={
            "encoder_type": kind,
            "size": config.size_px,
            "layers": config.layers,
            "length": length,
            "widths": ",".join(map(str, config.widths)),
            "latent_avg": "added" if adds_mean else "not added",
        },
        channels=config.channels,
        output_range=(-1.0, 1.0),
        input_range=(-1.0, 1.0),
        max_batch_size=8,
        image_size_px=(config.size_px, config.size_px),
        w_shape=(config.layers, length),
        notes=("an encoder has float32 tensors, image in [-1, 1] and w, and is called by ModelInfer",),
        tolerance=1e-3,
    )


def _configure(config: Mapping[str, object]) -> dict[str, Scalar]:
    """What `opts` in the file says."""
    kind, adds_mean = config.get("beside.opts.encoder_type"), config.get("beside.opts.start_from_latent_avg")
    found: dict[str, Scalar] = {"encoder_type": kind} if isinstance(kind, str) else {}
    return {**found, "start_from_latent_avg": str(adds_mean).lower()} if isinstance(adds_mean, bool) else found


ARCHITECTURE = Architecture(
    name="psp",
    reference="eladrich/pixel2style2pixel, omertov/encoder4editing",
    matches=lambda state: read_config(state) is not None,
    build=_build,
    settings=SETTINGS,
    configure=_configure,
)
