"""ProGAN: Karras, Aila, Laine, Lehtinen, "Progressive Growing of GANs for Improved Quality, Stability, and Variation",
2017, arXiv:1710.10196.

Reads the checkpoints of akanimax/pro_gan_pytorch in its three layouts: since 2020 `depth_<d>_epoch_<e>.bin` (keys
`layers.<i>.conv_1`, first convs in `layers.0`), of which the shadow generator is used; before, `GAN_GEN_SHADOW_<d>.pth`
and `GAN_GEN_<d>.pth` (`initial_block.conv_1`), and in 2018 with `.conv` and `.deconv` behind each conv's name.
A file that was saved while the network grew has all layers of the full size, the upper ones untrained: the size comes
from the file's name, else from the layers whose biases are still 0; `--set size=64` says it. Fading is not served.
What no tensor says: whether weights are scaled when they are used (`--set equalized=no`), and how many classes the
conditional training put before the latent (`--set classes=10`).
Differences: the layout of 2018 scales by the standard deviation that the first random weights happened to have, which
no file says; its expected value is used (within 0.1 % for large convs, 2 % for the last ones).
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from math import prod, sqrt

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.basic.latent_code import Conditioned, Distribution, LatentCode, Section
from models.state_dict import Rules, load, rename, shape

LAYOUTS: Mapping[str, Rules] = {
    "2020": {
        r"layers\.0\.conv_1\.(weight|bias)": r"first.\1",
        r"layers\.0\.conv_2\.(weight|bias)": r"conv.\1",
        r"layers\.(\d+)\.conv_([12])\.(weight|bias)": lambda found: (
            f"stages.{int(found[1]) - 1}.conv{found[2]}.{found[3]}"
        ),
        r"rgb_converters\.(\d+)\.(weight|bias)": r"rgb.\1.\2",
    },
    "2019": {
        r"initial_block\.conv_1\.(weight|bias)": r"first.\1",
        r"initial_block\.conv_2\.(weight|bias)": r"conv.\1",
        r"layers\.(\d+)\.conv_([12])\.(weight|bias)": r"stages.\1.conv\2.\3",
        r"rgb_converters\.(\d+)\.(weight|bias)": r"rgb.\1.\2",
    },
    "2018": {
        r"initial_block\.conv_1\.(?:deconv\.)?(weight|bias)": r"first.\1",
        r"initial_block\.conv_2\.(?:conv\.)?(weight|bias)": r"conv.\1",
        r"layers\.(\d+)\.conv_([12])\.(?:conv\.)?(weight|bias)": r"stages.\1.conv\2.\3",
        r"rgb_converters\.(\d+)\.(?:conv\.)?(weight|bias)": r"rgb.\1.\2",
    },
}
FILE_NAMES = (r"depth_(\d+)_epoch_\d+\.\w+", r"GAN_GEN_(?:SHADOW_)?(\d+)\.\w+")
SETTINGS = {
    "size": Setting(0, "side of the image in pixels, where the network had not grown to its full size; 0: see inspect"),
    "equalized": Setting("yes", "whether weights are scaled by their number when they are used", ("yes", "no")),
    "classes": Setting(0, "labels whose one-hot vector stands before the latent; 0: no labels"),
}


class Stage(nn.Module):
    """Doubles the size, then two 3x3 convs, each with leaky ReLU and pixel norm."""

    def __init__(self, before: int, after: int, slope: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, 1, 1)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1)
        self.activation = nn.LeakyReLU(slope)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, after, 2H, 2W) float32."""
        maps = F.interpolate(maps, scale_factor=2.0, mode="nearest")
        maps = pixel_norm(self.activation(self.conv1(maps)))
        return pixel_norm(self.activation(self.conv2(maps)))


def pixel_norm(values: torch.Tensor) -> torch.Tensor:
    """Each pixel's channels, axis 1, divided by their root mean square."""
    return values / (values.square().mean(1, keepdim=True) + 1e-8).sqrt()


class ProganGenerator(nn.Module):
    """A map of 4x4 pixels, doubled by stages.

    Args:
        latent: length of what comes in.
        widths: channels of the maps, the 4x4 one first.
        channels: of the image.
        norms: whether what comes in, and whether the first layer's map, are normalised.
        fade: share of the image that the network gives without its last stage.
        tanh: whether the image goes through tanh.
        slope: of the leaky ReLUs.
    """

    def __init__(
        self,
        latent: int,
        widths: Sequence[int],
        channels: int,
        norms: tuple[bool, bool],
        fade: float = 0.0,
        tanh: bool = False,
        slope: float = 0.2,
    ) -> None:
        super().__init__()
        self.norms, self.fade = norms, fade
        self.first = nn.Linear(latent, 16 * widths[0])
        self.conv = nn.Conv2d(widths[0], widths[0], 3, 1, 1)
        self.stages = nn.ModuleList(Stage(*pair, slope) for pair in itertools.pairwise(widths))
        self.last = nn.Conv2d(widths[-1], channels, 1)
        self.smaller = nn.Conv2d(widths[-2], channels, 1) if fade else None
        self.activation = nn.LeakyReLU(slope)
        self.output = nn.Tanh() if tanh else nn.Identity()

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) float32, nominally in [-1, 1], from `latent` (N, Z) float32."""
        entered = pixel_norm(latent) if self.norms[0] else latent
        maps = self.activation(self.first(entered)).unflatten(1, (-1, 4, 4))
        maps = pixel_norm(maps) if self.norms[1] else maps
        maps = before = pixel_norm(self.activation(self.conv(maps)))
        for stage in self.stages:
            before, maps = maps, stage(maps)
        image: torch.Tensor = self.last(maps)
        if self.smaller is not None:
            image = torch.lerp(image, F.interpolate(self.smaller(before), scale_factor=2.0), self.fade)
        finished: torch.Tensor = self.output(image)
        return finished


def as_generator(
    network: nn.Module, widths: Sequence[int], channels: int, latent: int, classes: int, extra: Mapping[str, Scalar]
) -> Generator:
    """The generator whose images are as large as the number of `widths` says."""
    side_px = 4 * 2 ** (len(widths) - 1)
    return Generator(
        network=network.eval(),
        task=Task.CLASS_CONDITIONAL if classes else Task.UNCONDITIONAL,
        hyperparameters={
            "latent_size": latent,
            "num_channels": channels,
            "image_size_px": side_px,
            "widths": ",".join(map(str, widths)),
            **({"classes": classes} if classes else {}),
            **extra,
        },
        channels=channels,
        output_range=(-1.0, 1.0),
        max_batch_size=16,
        image_size_px=(side_px, side_px),
        latent_size=latent,
        classes=classes,
    )


def widths_of(plain: StateDict) -> tuple[int, ...]:
    """Channels of the maps, the 4x4 one first, of a network's state under our names; empty if it is none."""
    width = shape(plain, "conv.weight", 4)
    if width[:1] != width[1:2] or not width[0]:
        return ()
    widths = [width[0]]
    while (following := shape(plain, f"stages.{len(widths) - 1}.conv1.weight", 4))[0]:
        second = shape(plain, f"stages.{len(widths) - 1}.conv2.weight", 4)
        if following[1:] != (widths[-1], 3, 3) or second != (following[0], following[0], 3, 3):
            return ()
        widths.append(following[0])
    fits = all(shape(plain, f"rgb.{step}.weight", 4)[1:] == (each, 1, 1) for step, each in enumerate(widths))
    return tuple(widths) if fits and f"rgb.{len(widths)}.weight" not in plain else ()


def _layout(state: StateDict) -> tuple[str, dict[str, torch.Tensor]]:
    """(the layout's name, the state under our names), empty if it is none."""
    for name, rules in LAYOUTS.items():
        plain = rename(state, rules, strict=True)
        width = shape(plain, "conv.weight", 4)[0]
        if plain and widths_of(plain) and shape(plain, "first.weight", 4)[1:] == (width, 4, 4):
            return name, plain
    return "", {}


def _trained(plain: StateDict, full: int) -> int:
    """How often the trained part doubles: up to the last stage with a bias that is no longer 0; all if none is."""
    changed = [step for step in range(full + 1) if plain[f"rgb.{step}.bias"].any()]
    return max(changed, default=full)


def _steps(asked_px: int, plain: StateDict, full: int) -> int:
    """How often the served part doubles."""
    if not asked_px:
        return _trained(plain, full)
    sizes = [4 * 2**step for step in range(full + 1)]
    if asked_px not in sizes:
        raise ArchitectureError(f"size={asked_px}: the file holds layers for {', '.join(map(str, sizes))} px")
    return sizes.index(asked_px)


def _scale(layout: str, key: str, size: Sequence[int]) -> float:
    """What a weight of this shape is multiplied by when it is used."""
    if layout == "2018":
        return 1 / sqrt(prod(size[1:]))
    return sqrt(2 / (size[0] if key == "first.weight" else prod(size[1:])))


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    layout, plain = _layout(state)
    widths = widths_of(plain)
    steps = _steps(int(settings["size"]), plain, len(widths) - 1)
    if settings["equalized"] == "yes":
        plain = {
            key: tensor * _scale(layout, key, tensor.shape) if key.endswith("weight") else tensor
            for key, tensor in plain.items()
        }
    latent, channels = plain["first.weight"].shape[0], plain["rgb.0.weight"].shape[0]
    plain["first.weight"] = plain["first.weight"].flatten(1).t().contiguous()
    plain["first.bias"] = plain["first.bias"].repeat_interleave(16)
    wanted: Rules = {
        rf"rgb\.{steps}\.(.+)": r"last.\1",
        r"rgb\..+": None,
        **{rf"stages\.{step}\..+": None for step in range(steps, len(widths))},
    }
    classes = int(settings["classes"])
    if classes and not 0 < classes < latent:
        raise ArchitectureError(f"classes={classes}: the first layer has {latent} inputs, the latent among them")
    served = widths[: steps + 1]
    network = load(ProganGenerator(latent, served, channels, (not classes, False)), rename(plain, wanted))
    if classes:
        sections = [Section(Distribution.LABEL, classes), Section(Distribution.NORMAL, latent - classes)]
        network = Conditioned(LatentCode(sections, torch.eye(classes)), network)
    return as_generator(network, served, channels, latent - classes, classes, {"layout": layout})


def _configure(config: Mapping[str, object]) -> Mapping[str, Scalar]:
    """The size that the file's name tells, and what the file says of its weights."""
    found: dict[str, Scalar] = {}
    for number, pattern in enumerate(FILE_NAMES):
        if named := re.fullmatch(pattern, str(config.get("file.name", ""))):
            found["size"] = 2 ** min(int(named[1]) + 2 * number, 20)
    if isinstance(equalized := config.get("beside.conf.use_eql"), bool):
        found["equalized"] = "yes" if equalized else "no"
    return found


ARCHITECTURE = Architecture(
    name="progan",
    reference="akanimax/pro_gan_pytorch",
    matches=lambda state: bool(_layout(state)[0]),
    build=_build,
    settings=SETTINGS,
    configure=_configure,
)
