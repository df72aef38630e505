"""Discriminators and critics that lie next to the generators in training checkpoints, by their repositories' keys."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def _convs(sizes: Mapping[str, tuple[int, int]], norms: Mapping[str, int], kernel: int = 4) -> dict[str, Tensor]:
    state = {f"{name}.weight": torch.ones(after, before, kernel, kernel) for name, (before, after) in sizes.items()}
    for name, width in norms.items():
        state |= {f"{name}.{key}": tensor for key, tensor in nn.BatchNorm2d(width).state_dict().items()}
    return state


def _linears(sizes: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
    weights = {f"{name}.weight": torch.ones(after, before) for name, (before, after) in sizes.items()}
    return weights | {f"{name}.bias": torch.ones(after) for name, (_, after) in sizes.items()}


DISCRIMINATORS: dict[str, dict[str, Tensor]] = {
    "PyTorch-GAN gan": _linears({"model.0": (144, 32), "model.2": (32, 16), "model.4": (16, 1)}),
    "PyTorch-GAN cgan": {"label_embedding.weight": torch.ones(10, 10)}
    | _linears({"model.0": (154, 32), "model.2": (32, 32), "model.5": (32, 32), "model.8": (32, 1)}),
    "PyTorch-GAN acgan": _convs({"conv_blocks.0": (1, 16), "conv_blocks.3": (16, 32)}, {"conv_blocks.6": 32}, 3)
    | _linears({"adv_layer.0": (128, 1), "aux_layer.0": (128, 10)}),
    "yunjey": _linears({"0": (144, 16), "2": (16, 16), "4": (16, 1)}),
    "WassersteinGAN mlp": _linears({"main.0": (144, 16), "main.2": (16, 16), "main.4": (16, 16), "main.6": (16, 1)}),
    "WassersteinGAN": _convs(
        {"main.initial:3-8:conv": (3, 8), "main.pyramid:8-16:conv": (8, 16), "main.final:16-1:conv": (16, 1)},
        {"main.pyramid:16:batchnorm": 16},
    ),
    "Natsu6767": _convs({"conv1": (3, 8), "conv2": (8, 16), "conv3": (16, 1)}, {"bn2": 16}),
    "Zeleni9": _convs({"main_module.0": (1, 8), "main_module.3": (8, 16), "output.0": (16, 1)}, {}),
    "aladdinpersson": _convs({"disc.0": (3, 8), "disc.2.0": (8, 16), "disc.4": (16, 1)}, {"disc.2.1": 16}),
    "znxlwm": _convs({"conv1": (1, 8), "conv2": (8, 16), "conv3": (16, 1)}, {"conv2_bn": 16}),
    "znxlwm collections": _convs({"conv.0": (1, 8), "conv.2": (8, 16)}, {"conv.3": 16})
    | _linears({"fc.0": (784, 16), "fc.3": (16, 1)}),
}
