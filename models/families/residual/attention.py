"""Self-attention over a map: Zhang, Goodfellow, Metaxas, Odena, "Self-Attention Generative Adversarial Networks", 2018,
arXiv:1805.08318; as the released code has it, which all repositories here follow: keys and values are halved by
max pooling, queries and keys have C/8 channels, values C/2.
"""

import torch
import torch.nn.functional as F
from torch import nn


class SelfAttention(nn.Module):
    """`x + o(softmax(theta^T phi) g)`; the learned factor before `o` is folded into its weight (see `fold_gain`)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.phi = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.g = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.o = nn.Conv2d(channels // 2, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) float32 from the same; H and W even."""
        height, width = x.shape[2:]
        queries = self.theta(x).flatten(2).transpose(1, 2)
        keys = F.max_pool2d(self.phi(x), 2).flatten(2)
        values = F.max_pool2d(self.g(x), 2).flatten(2)
        weights = torch.softmax(queries @ keys, dim=-1)
        mixed = torch.unflatten(values @ weights.transpose(1, 2), 2, (height, width))
        added: torch.Tensor = x + self.o(mixed)
        return added


def fold_gain(state: dict[str, torch.Tensor], gain: str) -> dict[str, torch.Tensor]:
    """The state with every `<attention>.<gain>` multiplied into `<attention>.o.weight` next to it."""
    folded = dict(state)
    for key in state:
        prefix = key.removesuffix(f".{gain}")
        if prefix != key and f"{prefix}.o.weight" in state:
            folded[f"{prefix}.o.weight"] = state[f"{prefix}.o.weight"] * folded.pop(key).reshape(1, 1, 1, 1)
    return folded
