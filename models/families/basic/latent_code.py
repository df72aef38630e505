"""What enters a generator's first layer: the latent, its sections as training sampled them, and the label next to them.

Callers give standard normal latents only. Where a repository samples something else, the section is mapped inside the
graph: a normal number x becomes uniform as (1 + erf(x / sqrt 2)) / 2, the normal distribution's own function.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import nn


class Distribution(StrEnum):
    """How training sampled a section of what enters the first layer."""

    NORMAL = "standard normal"
    UNIT = "uniform, 0 to 1"
    SIGNED = "uniform, -1 to 1"
    CHOICE = "one-hot, every place as likely"
    LABEL = "the label's row"


@dataclass(frozen=True)
class Section:
    """`size` neighbouring inputs of the first layer, distributed alike."""

    distribution: Distribution
    size: int


class LatentCode(nn.Module):
    """(N, K) float32 for the first layer, sections in the file's order.

    Args:
        sections: what K consists of; all but labels are taken from the latent, in this order.
        rows: (classes, length) float32, one row per label; None if no section is a label.
    """

    def __init__(self, sections: Sequence[Section], rows: torch.Tensor | None = None) -> None:
        super().__init__()
        self.sections = tuple(sections)
        self.latent_size = sum(section.size for section in sections if section.distribution is not Distribution.LABEL)
        self.rows = None if rows is None else nn.Embedding.from_pretrained(rows.float())  # type: ignore[no-untyped-call]

    def forward(self, latent: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """(N, K) float32 from `latent` (N, latent_size) float32, standard normal, and `label` (N,) int64."""
        parts: list[torch.Tensor] = []
        start = 0
        for section in self.sections:
            if section.distribution is Distribution.LABEL:
                assert self.rows is not None, "a label section comes with rows"
                parts.append(self.rows(label))
            else:
                parts.append(_sampled(section.distribution, latent[:, start : start + section.size]))
                start += section.size
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


class Conditioned(nn.Module):
    """A generator body behind a `LatentCode`."""

    def __init__(self, code: LatentCode, body: nn.Module) -> None:
        super().__init__()
        self.entrance = code  # `code` is taken: torch.fx puts a graph's source there
        self.body = body

    def forward(self, latent: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """The body's images (N, C, H, W) float32 from `latent` (N, Z) float32 and, where taken, `label` (N,)."""
        image: torch.Tensor = self.body(self.entrance(latent, label))
        return image


def _sampled(distribution: Distribution, normal: torch.Tensor) -> torch.Tensor:
    if distribution is Distribution.NORMAL:
        return normal
    if distribution is Distribution.CHOICE:
        return torch.eye(normal.shape[1], dtype=normal.dtype)[normal.argmax(dim=1)]
    signed = torch.erf(normal * 0.5**0.5)
    return signed if distribution is Distribution.SIGNED else (1 + signed) / 2
