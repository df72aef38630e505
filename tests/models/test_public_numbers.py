"""The references of newer architectures against numbers that their authors' own classes gave, in float64.

The numbers were measured once with the public classes on weights and inputs that a formula makes. They hold the
references of tests/models/references, and with them our networks, to something that nobody here wrote.
"""

import math
import zlib
from collections.abc import Callable, Collection

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.models.references import anime, gfpgan, progan, r3gan, spade, spectral_power, stargan, stargan_v2

Numbers = tuple[float, float, float, float, float, float]


def wave(count: int, speed: float, shift: float = 0.0) -> Tensor:
    return torch.sin(torch.arange(count, dtype=torch.float64) * speed + shift)


def fill(network: nn.Module, kept: Collection[str] = ()) -> nn.Module:
    """The network in float64 with weights by their names; tensors whose last part of the name is in `kept` stay."""
    network = network.double()
    state = network.state_dict()
    for name, tensor in state.items():
        last = name.rpartition(".")[2]
        if tensor.is_floating_point() and last not in kept and last != "weight_v":
            tensor.copy_(_filled(name, last, tensor.shape))
    for name, tensor in state.items():
        if name.endswith("weight_v"):
            (weight,) = (state[f"{name[:-2]}{end}"] for end in ("_bar", "_orig") if f"{name[:-2]}{end}" in state)
            tensor.copy_(nn.functional.normalize(weight.flatten(1).T @ state[f"{name[:-2]}_u"], dim=0))
    return network.eval().requires_grad_(False)


def _filled(name: str, last: str, shape: torch.Size) -> Tensor:
    s: Tensor = wave(math.prod(shape), 0.7, (zlib.crc32(name.encode()) % 628) / 100).reshape(shape)
    if last == "running_var":
        return 1 + 0.5 * s
    if last == "running_mean":
        return 0.1 * s
    if last == "rho":
        return 0.5 + 0.4 * s
    if last == "weight_u":
        unit: Tensor = s / s.norm()
        return unit
    if len(shape) <= 1 or last in ("bias", "temperature", "gamma", "beta", "Bias"):
        return 0.1 * s + (1 if last in ("weight", "temperature", "gamma") else 0)
    return 1.2 * s / math.sqrt(math.prod(shape[1:]))


def latent(size: int) -> Tensor:
    return 1.3 * wave(size, 1.7)[None]


def picture(*shape: int) -> Tensor:
    return wave(math.prod(shape), 0.13).reshape(1, *shape)


def from_r3gan() -> Tensor:
    network = r3gan.Model(64, [96, 96, 48], [12, 12, 6], 2, classes=10, e=64)
    image: Tensor = fill(network, kept=("Kernel",))(latent(64), torch.tensor([3]))
    return image


def from_akanimax() -> Tensor:
    image: Tensor = fill(progan.Akanimax(64, [32, 32, 16]))(latent(64))
    return image


def from_zoo() -> Tensor:
    image: Tensor = fill(progan.Zoo(64, [32, 32, 16]))(latent(64))
    return image


def from_heykeetae() -> Tensor:
    image: Tensor = fill(spectral_power.AttentionGenerator(128, 64))(latent(128))
    return image


def from_cosgrove_resnet() -> Tensor:
    image: Tensor = fill(spectral_power.ResnetGenerator(128, 128, 3))(latent(128))
    return image


def from_cosgrove_dcgan() -> Tensor:
    image: Tensor = fill(spectral_power.PlainGenerator(128, 64))(latent(128))
    return image


def from_animegan2(align: bool) -> Tensor:
    image: Tensor = fill(anime.AnimeGan2(32, align))(picture(3, 32, 40))
    return image


def from_ugatit(light: bool) -> Tensor:
    image: Tensor = fill(anime.Ugatit(8, 2, light, 32))(picture(3, 32, 32))
    return image


def from_stargan(stored: bool) -> Tensor:
    network = fill(stargan.Generator(8, 5, 2))
    arrays = {"image": picture(3, 32, 32), "attributes": torch.tensor([[1.0, 0, 0, 1, 1]], dtype=torch.float64)}
    image: Tensor = network(*arrays.values()) if stored else stargan.in_training(network, arrays)
    return image


def from_stargan_v2(w_hpf: float, masked: bool = False) -> Tensor:
    network = fill(stargan_v2.Generator(64, 16, 64, w_hpf), kept=("filter",))
    ramp = 0.5 + 0.5 * picture(1, 64, 64)
    image: Tensor = network(picture(3, 64, 64), latent(16), (ramp, ramp**2) if masked else None)
    return image


def from_stargan_v2_mapping() -> Tensor:
    style: Tensor = fill(stargan_v2.MappingNet(16, 16, 3))(latent(16), torch.tensor([2]))
    return style


def from_stargan_v2_encoder() -> Tensor:
    style: Tensor = fill(stargan_v2.Encoder(64, 16, 3, 64))(picture(3, 64, 64), torch.tensor([2]))
    return style


def from_spade(mode: str, z: int) -> Tensor:
    labels = torch.arange(128 * 256).reshape(1, 1, 128, 256) // 37 % 5
    one_hot = (labels == torch.arange(5).reshape(1, 5, 1, 1)).double()
    network = fill(spade.Spade(4, 5, mode, z=z), kept=())
    image: Tensor = network(one_hot, latent(z) if z else None)
    return image


MEASURED: dict[str, tuple[Callable[[], Tensor], Numbers]] = {
    "r3gan": (from_r3gan, (-0.001233, 0.057444, 0.054075, 0.019236, 0.021955, -0.074210)),
    "progan": (from_akanimax, (-0.328067, 0.362313, -0.060603, -0.068819, -0.883851, -0.127032)),
    "progan-zoo": (from_zoo, (0.031903, 0.267644, 0.395829, 0.352486, 0.121667, -0.050157)),
    "sagan-heykeetae": (from_heykeetae, (0.047966, 0.069933, -0.037269, 0.045533, 0.052918, 0.080787)),
    "sngan-cosgrove": (from_cosgrove_resnet, (0.033847, 0.959942, -1.000000, 1.000000, -0.074708, 1.000000)),
    "dcgan-cosgrove": (from_cosgrove_dcgan, (-0.077534, 0.234489, -0.911556, -0.912234, -0.089464, 0.882529)),
    "animegan2": (lambda: from_animegan2(True), (-0.079841, 0.285731, -0.309366, 0.341621, 0.228583, -0.209477)),
    "animegan2-cli": (lambda: from_animegan2(False), (-0.080670, 0.289316, -0.329783, 0.373662, 0.205389, -0.212457)),
    "ugatit-light": (lambda: from_ugatit(True), (-0.000436, 0.106979, 0.003531, -0.004655, -0.033718, -0.004050)),
    "ugatit": (lambda: from_ugatit(False), (-0.000436, 0.107006, 0.003550, -0.004674, -0.033711, -0.004045)),
    "stargan-stored": (lambda: from_stargan(True), (0.000018, 0.004212, -0.001722, 0.003581, 0.003831, 0.004646)),
    "stargan": (lambda: from_stargan(False), (-0.000398, 0.231761, -0.162687, 0.055480, 0.277427, 0.015430)),
    "gfpgan": (
        lambda: fill(gfpgan.Gfpgan([32] * 5, 32))(picture(3, 64, 64)),
        (-0.886468, 3.898590, -0.339742, -0.518117, -0.069085, -0.042126),
    ),
    "spade": (lambda: from_spade("normal", 0), (0.266256, 0.963902, -1.0, -1.0, -1.0, 1.0)),
    "spade-vae": (lambda: from_spade("more", 8), (0.272664, 0.962109, -1.0, -1.0, -1.0, 1.0)),
    "stargan-v2": (lambda: from_stargan_v2(0), (-0.167783, 0.606852, -0.482400, 0.419152, 0.385346, -0.310665)),
    "stargan-v2-hpf": (lambda: from_stargan_v2(1), (-0.174814, 0.654207, -0.587450, 0.478024, 0.336185, -0.350327)),
    "stargan-v2-masks": (
        lambda: from_stargan_v2(1, masked=True),
        (-0.183731, 0.617541, -0.904135, 0.806473, 0.085940, -0.596153),
    ),
    "stargan-v2-mapping": (
        from_stargan_v2_mapping,
        (-0.215657, 0.414712, 0.493507, -0.058004, -0.647905, -0.171740),
    ),
    "stargan-v2-encoder": (
        from_stargan_v2_encoder,
        (0.006247, 0.254806, 0.183317, -0.364670, 0.183471, -0.062700),
    ),
}


@pytest.mark.parametrize("name", MEASURED)
def test_the_reference_gives_what_the_public_class_gave(name: str) -> None:
    make, expected = MEASURED[name]
    values = make().numpy().ravel()
    size = len(values)
    found = (values.mean(), values.std(), *(values[index] for index in (0, size // 3, size // 2, size - 1)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * max(1.0, values.std()))
