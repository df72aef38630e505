"""Spectral normalisation taken out of a state dict: every weight divided by its sigma once, here, in float64.

Miyato, Kataoka, Koyama, Yoshida, "Spectral Normalization for Generative Adversarial Networks", 2018, arXiv:1802.05957.
Training repositories store the weight as it was before the division, and vectors to estimate its largest singular value
with; what they do with these when they generate is repeated here, so that the served network has plain weights.
"""

from collections.abc import Callable

import torch

from models.architecture import StateDict


def fold_stored(state: StateDict, is_transposed: Callable[[str], bool] = lambda name: False) -> dict[str, torch.Tensor]:
    """`<name>.weight` in place of torch's `<name>.weight_orig`, `_u` and `_v`: divided by u^T W v, both as stored.

    That is torch.nn.utils.spectral_norm in eval mode. `is_transposed` says of a weight's name whether it is that of a
    transposed conv, whose second axis is the output's.
    """
    folded = dict(state)
    for key in state:
        name = key.removesuffix("_orig")
        if name == key or f"{name}_u" not in state or f"{name}_v" not in state:
            continue
        weight, left, right = (folded.pop(part).double() for part in (key, f"{name}_u", f"{name}_v"))
        matrix = weight.transpose(0, 1) if is_transposed(name) else weight
        sigma = left @ (matrix.flatten(1) @ right)
        folded[name] = (weight / sigma).float()
    return folded


def fold_power_step(state: StateDict) -> dict[str, torch.Tensor]:
    """`<name>.weight` divided by its sigma, `<name>.u<k>` and `.sv<k>` gone, for ajbrock/BigGAN-PyTorch's own layers.

    In eval mode they take one power step from the stored u0: v = u0 W normalised, then sigma = |W v|. `sv<k>` is a log,
    and further vectors (num_G_SVs above 1) do not enter the weight.
    """
    logged = ("u0", "u1", "u2", "u3", "sv0", "sv1", "sv2", "sv3")
    folded = {key: tensor for key, tensor in state.items() if key.rpartition(".")[2] not in logged}
    for key, left in state.items():
        name = key.removesuffix("u0") + "weight"
        if not key.endswith(".u0") or name not in state:
            continue
        weight = state[name].double()
        matrix = weight.flatten(1)
        right = torch.nn.functional.normalize(left.double() @ matrix, dim=1)
        folded[name] = (weight / (right @ matrix.T).norm()).float()
    return folded
