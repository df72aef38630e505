"""eriklindernoren/PyTorch-GAN's convolutional generators, as `upsampling.py` and `infogan.py` read them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tests.models.cases.base import Case
from tests.models.references import pytorch_gan

WIDTHS = (8, 12, 6)


def call_info(noise: int, classes: int) -> Callable[[nn.Module, Mapping[str, Tensor]], Tensor]:
    """noise, the one-hot label, a code sampled uniformly from -1..1."""

    def call(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
        latent = arrays["latent"]
        label = nn.functional.one_hot(arrays["label"], classes).float()
        code = 2 * torch.special.ndtr(latent[:, noise:]) - 1
        image: Tensor = network(latent[:, :noise], label, code)
        return image

    return call


CASES = {
    "dcgan-upsampling": Case(
        "dcgan-upsampling",
        lambda: pytorch_gan.Plain(7, WIDTHS, 3, 32, first_norm=True),
        {"latent": 7, "channels": 3, "image_size_px": 32},
        (2, 32, 32, 3),
    ),
    "dcgan-upsampling-lsgan": Case(
        "dcgan-upsampling",
        lambda: pytorch_gan.Plain(7, WIDTHS, 1, 28, first_norm=False),
        {"latent": 7, "channels": 1, "image_size_px": 28},
        (2, 28, 28, 1),
        graph=True,
    ),
    "dcgan-upsampling-of-74": Case(
        "dcgan-upsampling",
        lambda: pytorch_gan.Plain(74, WIDTHS, 1, 16, first_norm=True),
        {"latent": 74, "channels": 1, "image_size_px": 16},
        (2, 16, 16, 1),
        arch="dcgan-upsampling",
        ambiguous_with=("infogan",),
    ),
    "infogan": Case(
        "infogan",
        lambda: pytorch_gan.Info(74, WIDTHS, 1, 16, first_norm=True),
        {"latent": 64, "classes": 10, "channels": 1, "image_size_px": 16},
        (2, 16, 16, 1),
        call=call_info(62, 10),
        arch="infogan",
        ambiguous_with=("dcgan-upsampling",),
    ),
    "infogan-of-other-sizes": Case(
        "infogan",
        lambda: pytorch_gan.Info(12 + 4 + 3, WIDTHS, 1, 16, first_norm=True),
        {"latent": 15, "classes": 4, "channels": 1, "image_size_px": 16},
        (2, 16, 16, 1),
        call=call_info(12, 4),
        overrides={"classes": "4", "code": "3"},
        arch="infogan",
        ambiguous_with=("dcgan-upsampling",),
    ),
    "acgan": Case(
        "acgan",
        lambda: pytorch_gan.Labelled(5, 7, WIDTHS, 16, uses_label=True),
        {"latent": 7, "classes": 5, "channels": 1, "image_size_px": 16},
        (2, 16, 16, 1),
        arch="acgan",
        ambiguous_with=("sgan",),
        graph=True,
    ),
    "sgan": Case(
        "sgan",
        lambda: pytorch_gan.Labelled(5, 7, WIDTHS, 16, uses_label=False),
        {"latent": 7, "channels": 1, "image_size_px": 16},
        (2, 16, 16, 1),
        arch="sgan",
        ambiguous_with=("acgan",),
        graph=True,
    ),
}
