"""christiancosgrove/pytorch-spectral-normalization-gan and heykeetae/Self-Attention-GAN."""

import torch.nn.functional as F
from torch import nn

from tests.models.cases.base import Case
from tests.models.references.spectral_power import (
    AttentionGenerator,
    PlainGenerator,
    ResnetGenerator,
    Wrapped,
    once,
)


def unit(network: nn.Module) -> None:
    """u of each weight as training leaves it, of length 1."""
    for module in network.modules():
        if isinstance(module, Wrapped):
            module.weight_u.data.copy_(F.normalize(module.weight_u.data, dim=0))


RESNET = {"z_dim": 6, "GEN_SIZE": 8, "channels": 3, "image_size_px": 16}
CASES = {
    "sagan-heykeetae": Case(
        "sagan-heykeetae",
        lambda: AttentionGenerator(6, 8),
        {"z_dim": 6, "g_conv_dim": 8, "channels": 3, "imsize": 64},
        (2, 64, 64, 3),
        prepare=unit,
        graph=True,
    ),
    "sngan-cosgrove": Case("sngan-cosgrove", lambda: ResnetGenerator(6, 8, 2), RESNET, (2, 16, 16, 3), graph=True),
    "sngan-cosgrove-one-name": Case(
        "sngan-cosgrove", lambda: ResnetGenerator(6, 8, 2), RESNET, (2, 16, 16, 3), file=once
    ),
    "dcgan-cosgrove": Case(
        "dcgan",
        lambda: PlainGenerator(6, 4),
        {"nz": 6, "ngf": 4, "nc": 3, "image_size_px": 32},
        (2, 32, 32, 3),
    ),
}
