"""DCGAN-like generators as repositories name their layers, all brought to the keys of `transposed.py`.

| keys | repository |
|---|---|
| `main.<i>`, `main_module.<i>`, any other sequence | pytorch/examples dcgan; Zeleni9/pytorch-wgan (with biases) |
| `network.<i>`, kernels 4, 3, 4, 4 | AKASHKADEL/dcgan-mnist and its many copies, 28 px |
| `net.<i>.0`, `net.<i>.1`, last `net.<n>` | aladdinpersson DCGAN, WGAN, WGAN-GP; with `gen.` Coursera's GAN course |
| `tconv<i>`, `bn<i>` | Natsu6767/DCGAN-PyTorch, Natsu6767/InfoGAN-PyTorch |
| `deconv<i>`, `deconv<i>_bn` | znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN |
| `model.<i>`, the last transposed conv with kernel 3 | christiancosgrove/pytorch-spectral-normalization-gan model.py |
| `main.initial:100-512:convt`, `main.pyramid:512-256:convt`... | martinarjovsky/WassersteinGAN; old: dots for colons |

Strides are in no file: a map of one pixel grows to the kernel's size (stride 1, no padding), a kernel of 4 doubles any
larger map (stride 2, padding 1), a convolution of 3, plain or transposed, keeps it (stride 1, padding 1).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from models.architecture import StateDict
from models.families.basic.transposed import Step

_SEQUENTIAL = re.compile(r"((?:[A-Za-z_]\w*\.)?)(\d+)\.(\w+)")
_NESTED = re.compile(r"(\w+\.\d+)(\.[01])?\.(\w+)")
_NUMBERED = re.compile(r"(tconv|deconv|convt)(\d+)\.weight")
_WASSERSTEIN = re.compile(r"main\.(initial|pyramid|extra-layers-(\d+)|final)[:.](\d+)(?:-\d+)?[:.](convt?)\.weight")
# Kernels -> (stride, padding) of the two networks of 28 px that follow no such rule.
_KNOWN: dict[tuple[int, ...], tuple[tuple[int, int], ...]] = {
    (3, 4, 3, 4): ((2, 0), (1, 0), (2, 0), (2, 0)),  # Coursera: 3, 6, 13, 28
    (4, 3, 4, 4): ((1, 0), (2, 1), (2, 1), (2, 1)),  # AKASHKADEL: 4, 7, 14, 28
}


@dataclass(frozen=True)
class Layer:
    """The beginnings of the keys of a convolution and of the BatchNorm behind it."""

    convolution: str
    norm: str | None


@dataclass(frozen=True)
class DcganConfig:
    """A generator read from its file: its steps, the side of its image, its tensors under canonical keys."""

    steps: tuple[Step, ...]
    size_px: int
    state: dict[str, torch.Tensor]


def read(state: StateDict) -> DcganConfig | None:
    """A DCGAN-like generator, whoever saved it; None if every tensor is not one of its."""
    for layers in (_sequential(state), _nested(state), _numbered(state), _wasserstein(state)):
        if layers and (config := _config(state, layers)):
            return config
    return None


def _sequential(state: StateDict) -> list[Layer]:
    """`<prefix><i>`; a norm follows its convolution at once, one activation stands before the next."""
    found = [_SEQUENTIAL.fullmatch(key) for key in state]
    prefixes = {match[1] for match in found if match}
    if not all(found) or len(prefixes) != 1:
        return []
    prefix = prefixes.pop()
    numbers = {int(match[2]) for match in found if match}
    layers: list[Layer] = []
    place = 0
    while place in numbers:
        norm = f"{prefix}{place + 1}" if place + 1 in numbers else None
        layers.append(Layer(f"{prefix}{place}", norm))
        place += 3 if norm else 2
    return layers


def _nested(state: StateDict) -> list[Layer]:
    """`net.<i>.0` and `net.<i>.1` in blocks; the last convolution may stand without a block."""
    found = [_NESTED.fullmatch(key) for key in state]
    if not all(found) or not any(match[2] for match in found if match):
        return []
    blocks = sorted({match[1] for match in found if match}, key=lambda name: int(name.split(".")[1]))
    layers: list[Layer] = []
    for block in blocks:
        inner = f"{block}.0" if f"{block}.0.weight" in state else block
        layers.append(Layer(inner, f"{block}.1" if f"{block}.1.weight" in state else None))
    return layers


def _numbered(state: StateDict) -> list[Layer]:
    """`tconv<i>` with `bn<i>`, `deconv<i>` with `deconv<i>_bn`."""
    found = sorted((int(match[2]), match[1]) for key in state if (match := _NUMBERED.fullmatch(key)))
    layers: list[Layer] = []
    for number, name in found:
        norms = [norm for norm in (f"bn{number}", f"{name}{number}_bn") if f"{norm}.weight" in state]
        layers.append(Layer(f"{name}{number}", norms[0] if norms else None))
    return layers


def _wasserstein(state: StateDict) -> list[Layer]:
    """Names that are sentences; sorted by what they say, as safetensors files are sorted by letters."""
    order = {"initial": 0, "pyramid": 1, "extra": 2, "final": 3}
    found: list[tuple[tuple[int, int], Layer]] = []
    for key in state:
        if match := _WASSERSTEIN.fullmatch(key):
            kind = match[1].split("-")[0]
            rank = int(match[2]) if match[2] else -int(match[3])
            name = key.removesuffix(".weight")
            after = name.replace(f"{match[3]}-", "").removesuffix(match[4]) + "batchnorm"
            found.append(((order[kind], rank), Layer(name, after if f"{after}.weight" in state else None)))
    return [layer for _, layer in sorted(found, key=lambda pair: pair[0])]


def _config(state: StateDict, layers: Sequence[Layer]) -> DcganConfig | None:
    weights = [state.get(f"{layer.convolution}.weight") for layer in layers]
    if len(layers) < 2 or layers[-1].norm or any(weight is None or weight.ndim != 4 for weight in weights):
        return None
    kernels = tuple(weight.shape[3] for weight in weights if weight is not None)
    moves = _KNOWN.get(kernels)
    steps: list[Step] = []
    size_px = 1
    channels = state[f"{layers[0].convolution}.weight"].shape[0]
    for index, layer in enumerate(layers):
        step = _step(state, layer, channels, size_px, moves[index] if moves else None)
        if step is None:
            return None
        steps.append(step)
        channels, size_px = step.after, step.size_px(size_px)
    renamed = _renamed(state, layers)
    return DcganConfig(tuple(steps), size_px, renamed) if len(renamed) == len(state) and size_px >= 8 else None


def _step(state: StateDict, layer: Layer, channels: int, size_px: int, move: tuple[int, int] | None) -> Step | None:
    """The step of a layer on a map of so many channels and that side; None if shapes say it cannot be one."""
    weight = state[f"{layer.convolution}.weight"]
    first, second, kernel, width = weight.shape
    plain = kernel == 3 and second == channels and size_px > 1 and move is None
    if kernel != width or (not plain and first != channels):
        return None
    keeps = kernel == 3 and size_px > 1 and move is None
    if not keeps and move is None and size_px > 1 and kernel != 4:
        return None
    after = first if plain else second
    parts = [f"{layer.convolution}.bias"] if f"{layer.convolution}.bias" in state else []
    parts += (
        [f"{layer.norm}.{what}" for what in ("weight", "bias", "running_mean", "running_var")] if layer.norm else []
    )
    if any(part not in state or tuple(state[part].shape) != (after,) for part in parts):
        return None
    has_bias = f"{layer.convolution}.bias" in state
    if plain:
        return Step(channels, after, 3, 1, 1, transposed=False, bias=has_bias, norm=layer.norm is not None)
    stride, padding = move or ((1, 1) if keeps else (1, 0) if size_px == 1 else (2, 1))
    return Step(channels, after, kernel, stride, padding, bias=has_bias, norm=layer.norm is not None)


def _renamed(state: StateDict, layers: Sequence[Layer]) -> dict[str, torch.Tensor]:
    places = {layer.convolution: 3 * index for index, layer in enumerate(layers)}
    places |= {layer.norm: 3 * index + 1 for index, layer in enumerate(layers) if layer.norm}
    parts = {key: key.rpartition(".") for key in state}
    return {f"main.{places[name]}.{what}": state[key] for key, (name, _, what) in parts.items() if name in places}
