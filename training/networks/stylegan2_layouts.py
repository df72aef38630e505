"""A trained StyleGAN2 under the keys that others' training repositories write, which is what `ganserve export` reads.

Without labels it is rosinality's stylegan2-pytorch. That has none, so with labels it is NVIDIA's stylegan2-ada-pytorch:
the same network, whose modulated convolutions store their weights unscaled and whose filters sum to 1.
"""

import math
import re
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from models.families.style.stylegan2_ops import fir_kernel
from training.networks.stylegan2 import StyleGan2


def save_weights(generator: StyleGan2, mean: Tensor, path: Path) -> None:
    """Writes the float32 weights and the mean latent (Z,) as safetensors."""
    state = nvidia(generator, mean) if generator.classes else rosinality(generator, mean)
    save_file({key: tensor.detach().cpu().float().contiguous().clone() for key, tensor in state.items()}, path)


def rosinality(generator: StyleGan2, mean: Tensor) -> dict[str, Tensor]:
    """Under the network's own keys, which are rosinality's."""
    return {**generator.state_dict(), "latent_avg": mean}


def nvidia(generator: StyleGan2, mean: Tensor) -> dict[str, Tensor]:
    """Under NVIDIA's keys, architecture `skip`; no noise maps, which are optional there."""
    own = {key: value for key, value in generator.state_dict().items() if not key.startswith("noises.")}
    found = {"mapping.w_avg": mean, "synthesis.b4.const": own["input.input"][0]}
    for key, tensor in own.items():
        if (layer := re.fullmatch(r"style\.(\d+)\.(weight|bias)", key)) is not None:
            found[f"mapping.fc{int(layer[1]) - 1}.{layer[2]}"] = tensor
        elif key.startswith("embed."):
            found[f"mapping.{key}"] = tensor
    filters = fir_kernel()
    convs = {"conv1": "b4.conv1", **{f"convs.{i}": f"b{8 << i // 2}.conv{i % 2}" for i in range(len(generator.convs))}}
    for name, place in convs.items():
        found |= _layer(own, f"{name}.conv", f"synthesis.{place}")
        found[f"synthesis.{place}.bias"] = own[f"{name}.activate.bias"]
        found[f"synthesis.{place}.resample_filter"] = filters
    rgbs = {"to_rgb1": "b4", **{f"to_rgbs.{i}": f"b{8 << i}" for i in range(len(generator.to_rgbs))}}
    for name, block in rgbs.items():
        found |= _layer(own, f"{name}.conv", f"synthesis.{block}.torgb")
        found[f"synthesis.{block}.torgb.bias"] = own[f"{name}.bias"].flatten()
        found[f"synthesis.{block}.resample_filter"] = filters
    return found


def _layer(own: dict[str, Tensor], name: str, place: str) -> dict[str, Tensor]:
    """The modulated convolution's weight and its style's layer."""
    weight = own[f"{name}.weight"][0]
    size = weight.shape[1] * weight.shape[2] * weight.shape[3]
    if weight.shape[-1] > 1:  # demodulated: the scale matters for the epsilon under the root only
        weight = weight / math.sqrt(size)
    affine = {f"{place}.affine.{part}": own[f"{name}.modulation.{part}"] for part in ("weight", "bias")}
    return {f"{place}.weight": weight, **affine}
