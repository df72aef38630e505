"""Diversity as a mean pairwise distance: a generator that collapsed draws pictures closer together than its data's."""

import torch
from torch import Tensor


def mean_pairwise_distance(pictures: Tensor) -> float:
    """The mean L2 distance between two different pictures of `pictures` (N, C, H, W), N >= 2, in the pictures' unit."""
    n = len(pictures)
    flat = pictures.reshape(n, -1).double()
    distances = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.sum().item() / (n * (n - 1))


def per_label(pictures: Tensor, labels: Tensor, classes: int, most: int = 1000) -> list[float]:
    """`mean_pairwise_distance` of each label's first `most` pictures; `labels` is (N,) int64, 0..classes-1."""
    return [mean_pairwise_distance(pictures[labels == label][:most]) for label in range(classes)]
