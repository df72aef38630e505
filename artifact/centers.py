"""Centres that truncation can pull images towards instead of towards the mean: `centers.npy`, (n, length) float32 in w.

Mokady et al., "Self-Distilled StyleGAN: Towards Generation from Internet Photos", 2022, arXiv:2202.12211 (multi-modal
truncation): of many kinds of images the mean is none, while the nearest of several centres is one of its own kind.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artifact.repository import CENTERS, ArtifactError
from artifact.spec import Spec

MAX_CENTERS = 1024


def read_centers(folder: Path, spec: Spec) -> NDArray[np.float32]:
    """The centres of a version's folder, (n, length); (0, length) without the file.

    Raises:
        ArtifactError: not such a file, or of another model.
    """
    length = spec.w_shape[1] if spec.w_shape else 0
    path = folder / CENTERS
    if not path.is_file():
        return np.empty((0, length), np.float32)
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ArtifactError(f"{CENTERS}: {error}") from None
    if not isinstance(found, np.ndarray) or found.dtype != np.float32 or found.ndim != 2 or found.shape[1] != length:
        shape = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else "no array"
        raise ArtifactError(f"{CENTERS}: {shape}, must be float32 (n, {length})")
    if not 1 <= len(found) <= MAX_CENTERS or not np.isfinite(found).all():
        raise ArtifactError(f"{CENTERS}: {len(found)} centres, must be 1 to {MAX_CENTERS} of finite numbers")
    return found
