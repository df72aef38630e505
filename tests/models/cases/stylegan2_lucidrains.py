"""StyleGAN2 as lucidrains trains it."""

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.references.stylegan2_lucidrains import EqualLinear, GeneratorBlock, StyleGAN2

LATENT = 16


def _settle(network: nn.Module) -> None:
    """A mapping network that does not fade out under its learning rate's multiplier, and images near 0..1."""
    assert isinstance(network, StyleGAN2)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, EqualLinear):
                module.weight.mul_(1 / module.lr_mul)
        for block in network.GE.blocks:
            assert isinstance(block, GeneratorBlock)
            block.to_rgb.conv.weight.mul_(0.3)
            block.to_noise1.weight.add_(0.5)


def _mean(network: StyleGAN2) -> Tensor:
    """What the repository estimates from 2000 random latents, here those of seed 0."""
    latents = torch.from_numpy(np.random.RandomState(0).randn(2000, LATENT))
    mean: Tensor = copy.deepcopy(network.SE).double()(latents).mean(0).float()
    return mean


def _call(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """As generate_truncated does with SE and GE, before its clamp; the uniform noise image is sampled by quantiles."""
    assert isinstance(network, StyleGAN2)
    average, size = _mean(network), network.GE.image_size
    w = network.SE(arrays["latent"])
    w = arrays["truncation_psi"][:, None] * (w - average) + average
    styles = w[:, None, :].expand(-1, network.GE.num_layers, -1)
    styles = torch.where(arrays["w_given"][:, None, None] == 1, arrays["w"], styles)
    uniform = torch.special.ndtr(arrays["noise"]).reshape(-1, size, size, 1)
    image: Tensor = network.GE(styles, uniform)
    return image


def _averages_only(network: nn.Module) -> Mapping[str, Tensor]:
    return {key: tensor for key, tensor in network.state_dict().items() if key.startswith(("SE.", "GE."))}


def _found(size: int, widths: str, depth: int, **more: Scalar) -> dict[str, Scalar]:
    sizes: dict[str, Scalar] = {"image_size": size, "network_capacity": 4, "widths": widths, "latent_dim": LATENT}
    rest: dict[str, Scalar] = {"transparent": False, "attn_layers": "", "no_const": False, "lr_mlp": 0.1}
    return {**sizes, "style_depth": depth, **rest, **more}


def _config(size: int, **more: object) -> dict[str, object]:
    config: dict[str, object] = {"image_size": size, "network_capacity": 4, "lr_mlp": 0.1, "transparent": False}
    return {**config, "fq_layers": [], "fq_dict_size": 256, "attn_layers": [], "no_const": False, **more}


CASES = {
    "stylegan2-lucidrains": Case(
        "stylegan2-lucidrains",
        lambda: StyleGAN2(32, LATENT, 3, 4, fmap_max=24),
        _found(32, "24,24,16,8", 3),
        (2, 32, 32, 3),
        call=_call,
        config=_config(32),
        prepare=_settle,
    ),
    "stylegan2-lucidrains-attention-transparent": Case(
        "stylegan2-lucidrains",
        lambda: StyleGAN2(8, LATENT, 2, 4, transparent=True, attn_layers=(2,), lr_mlp=0.05),
        _found(8, "16,8", 2, transparent=True, attn_layers="2", lr_mlp=0.05),
        (2, 8, 8, 4),
        call=_call,
        file=_averages_only,
        config=_config(8, transparent=True, attn_layers=[2], lr_mlp=0.05),
        prepare=_settle,
        graph=True,
    ),
    "stylegan2-lucidrains-no-const": Case(
        "stylegan2-lucidrains",
        lambda: StyleGAN2(16, LATENT, 2, 4, no_const=True, lr_mlp=0.01),
        _found(16, "32,16,8", 2, no_const=True, lr_mlp=0.01),
        (2, 16, 16, 3),
        call=_call,
        overrides={"lr_mlp": "0.01"},
        prepare=_settle,
    ),
}
