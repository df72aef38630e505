"""Directions of a StyleGAN's w: SeFa, from the weights alone, and PCA, from samples.

Shen, Zhou, "Closed-Form Factorization of Latent Semantics in GANs", 2020, arXiv:2007.06600; Härkönen, Hertzmann,
Lehtinen, Paris, "GANSpace: Discovering Interpretable GAN Controls", 2020, arXiv:2004.02546. As in SeFa's repository
every output of a style layer is scaled to length 1 before the factorisation.
"""

import numpy as np
from numpy.typing import NDArray
from torch import nn

from export.directions.space import Space

# StyleGAN3's input has a layer with this many outputs, which turns and shifts the image.
_TRANSFORM = 4


def sefa(network: nn.Module, length: int) -> NDArray[np.float64]:
    """Unit vectors (length, length), the one that styles react to the most first; of all linear layers that take w."""
    weights = [
        module.weight.detach().double().numpy()
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
        and module.in_features == length
        and module.out_features != _TRANSFORM
        and not name.startswith("mapping.")
    ]
    rows = np.concatenate(weights)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(norms > 0, norms, 1)
    _, vectors = np.linalg.eigh(rows.T @ rows)
    found: NDArray[np.float64] = vectors[:, ::-1].T
    return found


def principal(space: Space) -> NDArray[np.float64]:
    """Unit vectors (n, length): the principal axes of w, the widest first."""
    found: NDArray[np.float64] = space.spread[0].T
    return found
