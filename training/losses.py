"""Adversarial losses on discriminator scores; scores are (N,) float32, higher means more real; results are scalars."""

from torch import Tensor


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator minimises: E[max(0, 1 - real)] + E[max(0, 1 + fake)] (Lim & Ye 2017, arXiv:1705.02894)."""
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """What the generator minimises: -E[fake]."""
    return -fake.mean()
