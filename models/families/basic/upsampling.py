"""The convolutional generators of eriklindernoren/PyTorch-GAN: DCGAN (Radford, Metz, Chintala, 2015, arXiv:1511.06434)
with nearest upsampling and plain convolutions in place of transposed ones.

Reads the checkpoints of its scripts dcgan, began, dragan, relativistic_gan, lsgan, ebgan (here `dcgan-upsampling`),
acgan (Odena, Olah, Shlens, 2016, arXiv:1610.09585) and sgan (Odena, 2016, arXiv:1606.01583).
Differences: none. acgan and sgan save the same keys and shapes, though sgan never uses its `label_emb`: one of them
must be named. infogan saves dcgan's keys: `models.families.basic.infogan`.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, Setting, StateDict
from models.state_dict import load

LABELS = "label_emb.weight"
EPS = Setting(0.8, "epsilon of the BatchNorm layers but the first (which has 1e-5): the scripts pass 0.8")


class UpsamplingGenerator(nn.Module):
    """A linear layer onto a small map, two doublings with convolutions, tanh.

    Args:
        latent: inputs of the linear layer.
        init_px: side of the small map; the image is four times as wide.
        widths: of the small map and behind the two convolutions.
        channels: of the image.
        first_norm: BatchNorm on the small map (lsgan and ebgan have none).
        eps: of the other BatchNorm layers.
    """

    def __init__(
        self, latent: int, init_px: int, widths: Sequence[int], channels: int, first_norm: bool, eps: float = 0.8
    ) -> None:
        super().__init__()
        self.map = (widths[0], init_px, init_px)
        self.l1 = nn.Sequential(nn.Linear(latent, widths[0] * init_px**2))
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0])] if first_norm else []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, 1, 1)]
            layers += [nn.BatchNorm2d(after, eps), nn.LeakyReLU(0.2)]
        self.conv_blocks = nn.Sequential(*layers, nn.Conv2d(widths[-1], channels, 3, 1, 1), nn.Tanh())

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) float32 in [-1, 1] from `latent` (N, Z) float32."""
        image: torch.Tensor = self.conv_blocks(self.l1(latent).unflatten(1, self.map))
        return image


class AuxiliaryGenerator(nn.Module):
    """acgan's: the latent times the label's embedding, then the body."""

    def __init__(self, rows: torch.Tensor, body: nn.Module) -> None:
        super().__init__()
        self.rows = nn.Embedding.from_pretrained(rows)  # type: ignore[no-untyped-call]
        self.body = body

    def forward(self, latent: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) float32 in [-1, 1] from `latent` (N, Z) float32 and `label` (N,) int64."""
        image: torch.Tensor = self.body(self.rows(label) * latent)
        return image


@dataclass(frozen=True)
class UpsamplingConfig:
    """What an `UpsamplingGenerator`'s shapes say."""

    latent: int
    init_px: int
    widths: tuple[int, int, int]
    channels: int
    first_norm: bool

    def build(self, state: StateDict, eps: float) -> UpsamplingGenerator:
        """The network with the weights in; `state` may hold a label's embedding, which is left out."""
        network = UpsamplingGenerator(self.latent, self.init_px, self.widths, self.channels, self.first_norm, eps)
        load(network, {key: tensor for key, tensor in state.items() if key != LABELS})
        return network


def read(state: StateDict) -> UpsamplingConfig | None:
    """What the generator's own tensors say; None if they are none, or others are among them."""
    first_norm = "conv_blocks.0.running_mean" in state
    numbers = (2, 6, 9) if first_norm else (1, 5, 8)
    norms = (0, 3, 7) if first_norm else (2, 6)
    modules = {key.rpartition(".")[0] for key in state} - {"label_emb"}
    expected = {"l1.0", *(f"conv_blocks.{number}" for number in (*numbers, *norms))}
    kernels = [state.get(f"conv_blocks.{number}.weight") for number in numbers]
    linear = state.get("l1.0.weight")
    if modules != expected or linear is None or linear.ndim != 2:
        return None
    shapes = [tuple(kernel.shape) for kernel in kernels if kernel is not None and kernel.ndim == 4]
    if len(shapes) != 3 or any(shape[2:] != (3, 3) for shape in shapes):
        return None
    widths = (shapes[0][1], shapes[0][0], shapes[1][0])
    init_px = round((linear.shape[0] / widths[0]) ** 0.5)
    chained = shapes[1][1] == widths[1] and shapes[2][1] == widths[2]
    if not chained or init_px * init_px * widths[0] != linear.shape[0]:
        return None
    return UpsamplingConfig(linear.shape[1], init_px, widths, shapes[2][0], first_norm)


def as_generator(network: nn.Module, config: UpsamplingConfig, latent: int, classes: int) -> Generator:
    """The generator of a network that ends in the config's image."""
    size_px = 4 * config.init_px
    return Generator(
        network=network.eval(),
        task=Task.CLASS_CONDITIONAL if classes else Task.UNCONDITIONAL,
        hyperparameters={
            "latent": latent,
            **({"classes": classes} if classes else {}),
            "channels": config.channels,
            "image_size_px": size_px,
        },
        channels=config.channels,
        output_range=(-1.0, 1.0),
        max_batch_size=32,
        image_size_px=(size_px, size_px),
        latent_size=latent,
        classes=classes,
    )


def _matches(state: StateDict) -> bool:
    return LABELS not in state and read(state) is not None


def _matches_labelled(state: StateDict) -> bool:
    config, rows = read(state), state.get(LABELS)
    return config is not None and rows is not None and rows.ndim == 2 and rows.shape[1] == config.latent


def _relative(state: StateDict) -> str | None:
    if any(key.startswith("adv_layer.") for key in state):
        return "a PyTorch-GAN discriminator (adv_layer), not the generator"
    return None


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    config = read(state)
    assert config is not None, "only called where matched"
    return as_generator(config.build(state, float(settings["eps"])), config, config.latent, 0)


def _build_labelled(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    config = read(state)
    assert config is not None, "only called where matched"
    rows = state[LABELS]
    network = AuxiliaryGenerator(rows, config.build(state, float(settings["eps"])))
    return as_generator(network, config, config.latent, len(rows))


DCGAN_UPSAMPLING = Architecture(
    name="dcgan-upsampling",
    reference="eriklindernoren/PyTorch-GAN dcgan, began, dragan, relativistic_gan, lsgan, ebgan",
    matches=_matches,
    build=_build,
    settings={"eps": EPS},
    relative=_relative,
)
ACGAN = Architecture(
    name="acgan",
    reference="eriklindernoren/PyTorch-GAN acgan",
    matches=_matches_labelled,
    build=_build_labelled,
    settings={"eps": EPS},
)
SGAN = Architecture(
    name="sgan",
    reference="eriklindernoren/PyTorch-GAN sgan",
    matches=_matches_labelled,
    build=_build,
    settings={"eps": EPS},
)
