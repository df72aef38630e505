"""Exponential moving averages of a network's weights: what is judged and saved, since the last step is noisy."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def average_into(average: nn.Module, current: nn.Module, step: int, decay: float) -> None:
    """Moves `average` towards `current` by 1 - decay; faster in the first steps, so that the start is forgotten.

    Batch-norm statistics are averaged as the weights are; integer buffers are copied.
    """
    kept = min(decay, (1 + step) / (10 + step))
    target = average.state_dict()
    for key, value in current.state_dict().items():
        _blend(target[key], value, 1 - kept)


def _blend(target: Tensor, value: Tensor, share: float) -> None:
    if target.is_floating_point():
        target.lerp_(value, share)
    else:
        target.copy_(value)
