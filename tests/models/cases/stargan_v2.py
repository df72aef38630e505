"""clovaai/stargan-v2: with and without a high-pass filter, styles from a seed, a reference, or either."""

from collections.abc import Mapping

from torch import Tensor, nn

from tests.models.cases.base import Case
from tests.models.references.stargan_v2 import Filter, Nets, landmark_network

FOUND = {"img_size": 32, "latent_dim": 6, "style_dim": 8}


def _call(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    image: Tensor = network(arrays)
    return image


def _with_landmarks(network: nn.Module) -> dict[str, Tensor]:
    fan = {f"fan.{key}": tensor for key, tensor in landmark_network().items()}
    return {**network.state_dict(), **fan}


def _with_filter(network: nn.Module) -> None:
    network.get_buffer("generator.hpf.filter").copy_(Filter(1.0).get_buffer("filter"))


CASES = {
    "stargan-v2": Case(
        "stargan-v2",
        lambda: Nets(32, 3, 0),
        {**FOUND, "num_domains": 3, "w_hpf": 0, "style": "both"},
        (2, 24, 32, 3),
        call=_call,
        graph=True,
    ),
    "stargan-v2-filtered": Case(
        "stargan-v2",
        lambda: Nets(32, 2, 1.0),
        {**FOUND, "num_domains": 2, "w_hpf": 1.0, "style": "latent"},
        (2, 24, 32, 3),
        call=_call,
        file=_with_landmarks,
        prepare=_with_filter,
        overrides={"style": "latent"},
        graph=True,
    ),
    "stargan-v2-reference": Case(
        "stargan-v2",
        lambda: Nets(64, 2, 0, widest=24),
        {**FOUND, "img_size": 64, "num_domains": 2, "w_hpf": 0, "style": "reference"},
        (2, 24, 32, 3),
        call=_call,
        overrides={"style": "reference"},
        graph=True,
    ),
}
