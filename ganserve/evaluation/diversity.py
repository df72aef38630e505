"""Diversity without real images: Friedman & Dieng, "The Vendi Score", 2023, arXiv:2210.02410."""

import numpy as np
from numpy.typing import NDArray

IMAGES = 1000


def vendi(features: NDArray[np.float32], random: np.random.RandomState, images: int = IMAGES) -> float:
    """The number of images that differ altogether which would be as diverse: the exponential of the entropy of the
    eigenvalues of the cosine similarities, divided by their number, of at most `images` of (N, K). 1..images."""
    if len(features) > images:
        features = features[random.choice(len(features), images, replace=False)]
    rows = features.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(lengths == 0, 1, lengths)
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows  # the same eigenvalues but zeros
    values = np.linalg.eigvalsh(gram / len(rows))
    values = values[values > 1e-12]
    values /= values.sum()
    return float(np.exp(-(values * np.log(values)).sum()))
