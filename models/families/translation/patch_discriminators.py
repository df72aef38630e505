"""What lies next to a translator in its experiment's folder and is no generator: named, so that the user knows.

PatchGAN discriminators (Isola et al. 2016, arXiv:1611.07004) as junyanz/pytorch-CycleGAN-and-pix2pix, CUT
(taesungp/contrastive-unpaired-translation), eriklindernoren/PyTorch-GAN and NVIDIA/pix2pixHD save them, pix2pixHD's
feature encoder and CUT's sampler of patches.
"""

import re

from models.architecture import StateDict


def describe(state: StateDict) -> str | None:
    """A sentence that says which of them the weights are; None for anything else."""
    if any(re.match(r"scale\d+_layer\d+\.\d+\.|layer\d+\.0\.weight", key) for key in state) and _is_patchwise(state):
        return "a pix2pixHD multi-scale discriminator (<epoch>_net_D.pth), not the generator"
    if state and all(re.match(r"mlp_\d+\.\d+\.", key) for key in state):
        return "CUT's sampler of patches (<epoch>_net_F.pth), not the generator"
    if all(key.startswith("net.") for key in state) and _kernels(state, 1) and _is_patchwise(state):
        return "a pixel-wise discriminator (<epoch>_net_D.pth), not the generator"
    if all(re.match(r"model\.\d+\.", key) for key in state):
        if _kernels(state, 4) and _is_patchwise(state):
            return "a PatchGAN discriminator (model.<i> are 4x4 convs that end in one output), not the generator"
        if _is_encoder(state):
            return "a pix2pixHD feature encoder (<epoch>_net_E.pth) or a network without residual blocks"
    return None


def _convs(state: StateDict) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for key, tensor in state.items() if tensor.ndim == 4 and key.endswith("weight")]


def _kernels(state: StateDict, size: int) -> bool:
    shapes = _convs(state)
    return len(shapes) >= 2 and all(shape[2:] == (size, size) for shape in shapes)


def _is_patchwise(state: StateDict) -> bool:
    shapes = _convs(state)
    return bool(shapes) and shapes[-1][0] == 1


def _is_encoder(state: StateDict) -> bool:
    shapes = _convs(state)
    return len(shapes) >= 2 and shapes[0][2:] == shapes[-1][2:] == (7, 7) and "model.1.weight" in state
