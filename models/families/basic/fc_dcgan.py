"""The generator of InfoGAN's MNIST experiments (Chen et al., 2016, arXiv:1606.03657): two linear layers onto a small
map, two transposed convolutions, as znxlwm/pytorch-generative-model-collections uses it for every GAN it has.

Reads that repository's `<MODEL>_G.pkl`: keys `fc.<i>`, `deconv.<i>`. GAN, LSGAN, WGAN, WGAN_GP, DRAGAN, EBGAN and BEGAN
have a latent of 62; CGAN and ACGAN the one-hot label behind it; infoGAN a continuous code between the two. The
repository samples the latent uniformly from 0..1 and the code from -1..1, which the graph does with its normal latent.
Differences: none in what is computed. Where the first layer has other than 62, 72 or 74 inputs the user must say which
are the latent's.
"""

from collections.abc import Mapping

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.basic.dcgan import EPS
from models.families.basic.latent_code import Conditioned, Distribution, LatentCode, Section
from models.state_dict import load

# Inputs of the first layer -> (latent, continuous code, labels).
KNOWN = {62: (62, 0, 0), 72: (62, 0, 10), 74: (62, 2, 10)}
MODULES = {"fc.0", "fc.1", "fc.3", "fc.4", "deconv.0", "deconv.1", "deconv.3"}
SETTINGS = {
    "eps": EPS,
    "latent": Setting(0, "inputs that are the latent's; 0: 62 of 62, 72 or 74"),
    "classes": Setting(0, "labels among the inputs, with `latent`; what is left is the continuous code"),
}


class FcDcganGenerator(nn.Module):
    """Linear, BatchNorm, ReLU twice; then transposed convolutions from `maps` maps to an image four times as wide."""

    def __init__(
        self, inputs: int, hidden: int, maps: int, init_px: int, width: int, channels: int, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.map = (maps, init_px, init_px)
        values = maps * init_px**2
        self.fc = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.BatchNorm1d(hidden, eps),
            nn.ReLU(),
            nn.Linear(hidden, values),
            nn.BatchNorm1d(values, eps),
            nn.ReLU(),
        )
        self.deconv = nn.Sequential(
            nn.ConvTranspose2d(maps, width, 4, 2, 1),
            nn.BatchNorm2d(width, eps),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) float32 in [-1, 1] from `code` (N, K) float32: latent, continuous code, label."""
        image: torch.Tensor = self.deconv(self.fc(code).unflatten(1, self.map))
        return image


def _sizes(state: StateDict) -> tuple[int, int, int, int, int, int] | None:
    """The arguments of `FcDcganGenerator`; None if the file is not one."""
    if {key.rpartition(".")[0] for key in state} != MODULES:
        return None
    first, second = state.get("fc.0.weight"), state.get("fc.3.weight")
    kernels = [state.get(f"deconv.{index}.weight") for index in (0, 3)]
    if first is None or second is None or first.ndim != 2 or second.ndim != 2 or second.shape[1] != len(first):
        return None
    shapes = [tuple(kernel.shape) for kernel in kernels if kernel is not None and kernel.ndim == 4]
    if len(shapes) != 2 or any(shape[2:] != (4, 4) for shape in shapes) or shapes[1][0] != shapes[0][1]:
        return None
    maps = shapes[0][0]
    init_px = round((len(second) / maps) ** 0.5)
    if init_px * init_px * maps != len(second):
        return None
    return first.shape[1], len(first), maps, init_px, shapes[0][1], shapes[1][1]


def _relative(state: StateDict) -> str | None:
    if {key.rpartition(".")[0] for key in state} >= {"conv.0", "fc.0", "fc.3"}:
        return "a discriminator of znxlwm/pytorch-generative-model-collections (conv, then fc), not the generator"
    return None


def _split(inputs: int, settings: Mapping[str, Scalar]) -> tuple[int, int, int]:
    """(latent, continuous code, labels) among the first layer's inputs."""
    latent, classes = int(settings["latent"]), int(settings["classes"])
    if not latent and not classes and inputs in KNOWN:
        return KNOWN[inputs]
    if latent < 1 or latent + classes > inputs:
        raise ArchitectureError(
            f"{inputs} inputs, of which latent={latent} and classes={classes}; the repository has "
            f"{', '.join(map(str, KNOWN))}: say --set latent=LENGTH --set classes=COUNT"
        )
    return latent, inputs - latent - classes, classes


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    sizes = _sizes(state)
    assert sizes is not None, "only called where _matches"
    inputs, _, _, init_px, _, channels = sizes
    latent, code, classes = _split(inputs, settings)
    body = FcDcganGenerator(*sizes, eps=float(settings["eps"]))
    load(body, state)
    sections = [Section(Distribution.UNIT, latent)]
    sections += [Section(Distribution.SIGNED, code)] if code else []
    sections += [Section(Distribution.LABEL, classes)] if classes else []
    size_px = 4 * init_px
    return Generator(
        network=Conditioned(LatentCode(sections, torch.eye(classes) if classes else None), body).eval(),
        task=Task.CLASS_CONDITIONAL if classes else Task.UNCONDITIONAL,
        hyperparameters={
            "latent": latent,
            "code": code,
            "classes": classes,
            "channels": channels,
            "image_size_px": size_px,
        },
        channels=channels,
        output_range=(-1.0, 1.0),
        max_batch_size=32,
        image_size_px=(size_px, size_px),
        latent_size=latent + code,
        classes=classes,
    )


ARCHITECTURE = Architecture(
    name="fc-dcgan",
    reference="znxlwm/pytorch-generative-model-collections",
    matches=lambda state: _sizes(state) is not None,
    build=_build,
    settings=SETTINGS,
    relative=_relative,
)
