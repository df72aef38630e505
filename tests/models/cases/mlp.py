"""Perceptrons, as `models.families.basic.mlp` reads them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tests.models.cases.base import Case
from tests.models.references import mlp


def uniform(normal: Tensor) -> Tensor:
    """torch.rand's distribution, from the same standard normal numbers that the graph takes."""
    sampled: Tensor = torch.special.ndtr(normal)
    return sampled


def flat(channels: int, size: int) -> Callable[[nn.Module, Mapping[str, Tensor]], Tensor]:
    """How scripts whose generator gives (N, values) make images of it."""

    def call(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
        image: Tensor = network(arrays["latent"])
        return image.view(-1, channels, size, size)

    return call


def call_two_entrances(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    label = nn.functional.one_hot(arrays["label"], 4).float()
    image: Tensor = network(uniform(arrays["latent"]), label)
    return image.view(-1, 1, 8, 8)


CASES = {
    "mlp": Case(
        "mlp",
        lambda: mlp.PytorchGan(7, (8, 12, 16, 20), (1, 12, 12)),
        {"latent": 7, "hidden": "8-12-16-20", "channels": 1, "image_size_px": 12},
        (2, 12, 12, 1),
    ),
    "mlp-colour": Case(
        "mlp",
        lambda: mlp.PytorchGan(7, (8, 12, 16, 20), (3, 10, 10)),
        {"latent": 7, "hidden": "8-12-16-20", "channels": 3, "image_size_px": 10},
        (2, 10, 10, 3),
    ),
    "mlp-two-channels": Case(
        "mlp",
        lambda: mlp.PytorchGan(7, (8, 12), (2, 9, 9)),
        {"latent": 7, "hidden": "8-12", "channels": 2, "image_size_px": 9},
        (2, 9, 9, 2),
        overrides={"img_size": "9", "channels": "2"},
    ),
    "mlp-aae": Case(
        "mlp",
        lambda: mlp.PytorchGanDecoder(5, 12, (1, 10, 10)),
        {"latent": 5, "hidden": "12-12", "channels": 1, "image_size_px": 10},
        (2, 10, 10, 1),
    ),
    "mlp-yunjey": Case(
        "mlp",
        lambda: mlp.yunjey(6, 16, 14 * 14),
        {"latent": 6, "hidden": "16-16", "channels": 1, "image_size_px": 14},
        (2, 14, 14, 1),
        call=flat(1, 14),
    ),
    "mlp-wasserstein": Case(
        "mlp",
        lambda: mlp.Wasserstein(6, 16, 3, 16),
        {"latent": 6, "hidden": "16-16-16", "channels": 3, "image_size_px": 16},
        (2, 16, 16, 3),
    ),
    "mlp-simple-gan": Case(
        "mlp",
        lambda: mlp.SimpleGan(6, 16, 12 * 12),
        {"latent": 6, "hidden": "16", "channels": 1, "image_size_px": 12},
        (2, 12, 12, 1),
        call=flat(1, 12),
        graph=True,
    ),
    "mlp-znxlwm": Case(
        "mlp",
        lambda: mlp.FourLayers(6, 8, 12 * 12),
        {"latent": 6, "hidden": "8-16-32", "channels": 1, "image_size_px": 12},
        (2, 12, 12, 1),
        call=flat(1, 12),
    ),
    "cgan-mlp": Case(
        "cgan-mlp",
        lambda: mlp.PytorchGanConditional(5, 6, (8, 12, 16), (1, 12, 12)),
        {"latent": 6, "hidden": "8-12-16", "classes": 5, "channels": 1, "image_size_px": 12},
        (2, 12, 12, 1),
    ),
    "cgan-mlp-mnist-cgan": Case(
        "cgan-mlp",
        lambda: mlp.MnistCgan(5, 6, (8, 12, 16), 12),
        {"latent": 6, "hidden": "8-12-16", "classes": 5, "channels": 1, "image_size_px": 12},
        (2, 12, 12, 1),
        graph=True,
    ),
    "cgan-mlp-two-entrances": Case(
        "cgan-mlp",
        lambda: mlp.TwoEntrances(6, 4, 8, 8 * 8),
        {"latent": 6, "hidden": "16-16-32", "classes": 4, "channels": 1, "image_size_px": 8},
        (2, 8, 8, 1),
        call=call_two_entrances,
    ),
}
