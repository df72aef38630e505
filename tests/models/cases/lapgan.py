"""LAPGAN pyramids, as `models.families.basic.lapgan` reads them; one state dict of a folder's levels."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tests.models.cases.base import Case
from tests.models.references.lapgan import (
    AnirudhBase,
    AnirudhLevel,
    BreadLevel,
    Lapgan,
    WitnessBase,
    WitnessLevel,
    WitnessPlainLevel,
)


def tenth(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """np.random.normal(0, 0.1), from standard normal numbers."""
    image: Tensor = network(arrays["latent"] * 0.1, arrays["noise"] * 0.1)
    return image


def uniform(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """np.random.uniform(-1, 1), from the same standard normal numbers that the graph takes."""
    cumulated = (torch.special.ndtr(arrays[name]) for name in ("latent", "noise"))
    image: Tensor = network(*(2 * share - 1 for share in cumulated))
    return image


CASES = {
    "lapgan": Case(
        "lapgan",
        lambda: Lapgan(AnirudhBase(6, 16, 4), AnirudhLevel((8, 6)), AnirudhLevel((8, 6, 4)), clamp=True),
        {
            "latent": 6,
            "hidden": "16-16",
            "channels": 1,
            "base_size_px": 4,
            "levels": 3,
            "widths": "8-6, 8-6-4",
            "variant": "anirudhmaiya",
            "noise": "normal, 1",
        },
        (2, 16, 16, 1),
    ),
    "lapgan-witnessai-cifar10": Case(
        "lapgan",
        lambda: Lapgan(WitnessBase(7, 12, 3, 4), WitnessLevel(3, 6), WitnessLevel(3, 8)),
        {
            "latent": 7,
            "hidden": "12-12",
            "channels": 3,
            "base_size_px": 4,
            "levels": 3,
            "widths": "6-6, 8-8",
            "variant": "witnessai",
            "noise": "normal, 0.1",
        },
        (2, 16, 16, 3),
        call=tenth,
    ),
    "lapgan-witnessai-mnist": Case(
        "lapgan",
        lambda: Lapgan(
            WitnessBase(7, 12, 1, 7), WitnessPlainLevel(1, 5, (5, 5, 5)), WitnessPlainLevel(1, 6, (7, 7, 5))
        ),
        {
            "latent": 7,
            "hidden": "12-12",
            "channels": 1,
            "base_size_px": 7,
            "levels": 3,
            "widths": "5-5, 6-6",
            "variant": "witnessai",
            "noise": "uniform, 1",
        },
        (2, 28, 28, 1),
        call=uniform,
    ),
    "lapgan-breadbread": Case(
        "lapgan",
        lambda: Lapgan(WitnessBase(7, 12, 3, 3), BreadLevel(3, 6)),
        {
            "latent": 7,
            "hidden": "12-12",
            "channels": 3,
            "base_size_px": 3,
            "levels": 2,
            "widths": "6-6",
            "variant": "witnessai",
            "noise": "normal, 0.1",
        },
        (2, 6, 6, 3),
        call=tenth,
        graph=True,
    ),
}
