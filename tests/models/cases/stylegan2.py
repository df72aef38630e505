"""StyleGAN2 as rosinality trains and converts it."""

import copy
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.references.stylegan2 import EqualLinear, ModulatedConv2d, StyleGan2

STYLE = 12
CONVERTED_MEAN = torch.linspace(-0.4, 0.3, STYLE)


def settle(network: nn.Module) -> None:
    """Weights of unit variance, as the equalised learning rate keeps them, and styles around 1."""
    assert isinstance(network, StyleGan2)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, EqualLinear):
                module.weight.mul_(math.sqrt(module.weight.shape[1]) / module.lr_mul)
                module.bias.div_(module.lr_mul)
            if isinstance(module, ModulatedConv2d):
                module.weight.mul_(math.sqrt(module.weight[0, 0].numel()))
                module.modulation.bias.add_(1)
        for noise in network.noises.buffers():
            noise.mul_(noise.shape[-1])


def _without_noise(network: nn.Module) -> Mapping[str, Tensor]:
    return {key: tensor for key, tensor in network.state_dict().items() if not key.startswith("noises.")}


def _converted(network: nn.Module) -> Mapping[str, Tensor]:
    return {**network.state_dict(), "latent_avg": CONVERTED_MEAN}


def _estimated(network: StyleGan2) -> Tensor:
    """What the repository estimates from 4096 random latents, here those of seed 0."""
    latents = torch.from_numpy(np.random.RandomState(0).randn(4096, STYLE))
    mean: Tensor = copy.deepcopy(network.style).double()(latents).mean(0).float()
    return mean


def _call(
    mean: Callable[[StyleGan2], Tensor], cutoff: int = 99, noise: str = "const"
) -> Callable[[nn.Module, Mapping[str, Tensor]], Tensor]:
    """Draws image by image, as generate.py does with --sample 1 and a --truncation of its own."""

    def call(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
        assert isinstance(network, StyleGan2)
        average, images = mean(network), []
        for row in range(len(arrays["latent"])):
            psi = arrays["truncation_psi"][row]
            style = network.style(arrays["latent"][row : row + 1])
            truncated = average + psi * (style - average) if psi < 1 else style
            layers = [truncated if layer < cutoff else style for layer in range(network.n_latent)]
            given = arrays["w_given"][row] == 1
            latent = arrays["w"][row : row + 1] if given else torch.stack(layers, 1)
            images.append(network(latent, _noises(network, arrays, row, noise)))
        return torch.cat(images)

    return call


def _noises(network: StyleGan2, arrays: Mapping[str, Tensor], row: int, noise: str) -> list[Tensor] | None:
    if noise == "const":
        return None
    if noise == "none":
        return [torch.zeros(1)] * network.num_layers
    sizes = [noise.shape[-1] for noise in network.noises.buffers()]
    pieces = torch.split(arrays["noise"][row], [size * size for size in sizes])
    return [piece.reshape(1, 1, size, size) for piece, size in zip(pieces, sizes, strict=True)]


def _found(size: int, widths: str, n_mlp: int, noise: str, latent_avg: str) -> dict[str, Scalar]:
    sizes: dict[str, Scalar] = {"size": size, "style_dim": STYLE, "n_mlp": n_mlp, "widths": widths}
    return {**sizes, "noise": noise, "latent_avg": latent_avg}


CASES = {
    "stylegan2": Case(
        "stylegan2",
        lambda: StyleGan2((16, 12, 10, 6), STYLE, n_mlp=4),
        _found(32, "16,12,10,6", 4, "const", "of 4096 latents"),
        (2, 32, 32, 3),
        call=_call(_estimated),
        prepare=settle,
    ),
    "stylegan2-converted-cutoff": Case(
        "stylegan2",
        lambda: StyleGan2((8, 8, 6), STYLE, n_mlp=2),
        _found(16, "8,8,6", 2, "const", "stored"),
        (2, 16, 16, 3),
        call=_call(lambda network: CONVERTED_MEAN, cutoff=2),
        file=_converted,
        overrides={"truncation_cutoff": "2"},
        prepare=settle,
    ),
    "stylegan2-noise-input": Case(
        "stylegan2",
        lambda: StyleGan2((8, 8, 6), STYLE, n_mlp=1),
        _found(16, "8,8,6", 1, "input", "of 4096 latents"),
        (2, 16, 16, 3),
        call=_call(_estimated, noise="input"),
        overrides={"noise": "input"},
        prepare=settle,
        graph=True,
    ),
    "stylegan2-without-noise": Case(
        "stylegan2",
        lambda: StyleGan2((8, 6), STYLE, n_mlp=1),
        _found(8, "8,6", 1, "none", "of 4096 latents"),
        (2, 8, 8, 3),
        call=_call(_estimated, noise="none"),
        file=_without_noise,
        overrides={"noise": "none"},
        prepare=settle,
        graph=True,
    ),
}
