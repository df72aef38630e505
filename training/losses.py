"""Adversarial losses on discriminator scores, and penalties on its gradient.

Scores are (N,) or (N, ...) float32, one or several per picture; higher means more real. Losses are scalars, means over
all scores. Every `..._discriminator` (or critic) and `..._generator` gives what that player minimises. Penalties are
written in first derivatives of the discriminator with `create_graph`, so that a step can descend on them.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Discriminator = Callable[[Tensor], Tensor]


def minimax_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log sigmoid(real)] - E[log(1 - sigmoid(fake))] of logits (Goodfellow et al. 2014, arXiv:1406.2661)."""
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def non_saturating_generator(fake: Tensor) -> Tensor:
    """-E[log sigmoid(fake)] (arXiv:1406.2661, section 3): the one in use, strongest where fakes are found out."""
    return functional.softplus(-fake).mean()


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """(E[(real - 1)^2] + E[fake^2]) / 2: LSGAN with a = 0, b = c = 1 (Mao et al. 2017, arXiv:1611.04076, eq. 9)."""
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def least_squares_generator(fake: Tensor) -> Tensor:
    """E[(fake - 1)^2] / 2 (arXiv:1611.04076, eq. 9)."""
    return (fake - 1).square().mean() / 2


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """E[fake] - E[real] (Arjovsky et al. 2017, arXiv:1701.07875); needs a Lipschitz critic, see `gradient_penalty`."""
    return fake.mean() - real.mean()


def wasserstein_generator(fake: Tensor) -> Tensor:
    """-E[fake] (arXiv:1701.07875)."""
    return -fake.mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator minimises: E[max(0, 1 - real)] + E[max(0, 1 + fake)] (Lim & Ye 2017, arXiv:1705.02894)."""
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """What the generator minimises: -E[fake]."""
    return -fake.mean()


def relativistic(ahead: Tensor, behind: Tensor) -> Tensor:
    """-E[log sigmoid(ahead - behind)], pair by pair (RpGAN: Jolicoeur-Martineau 2018, arXiv:1807.00734).

    A discriminator wants real pictures ahead of drawn ones, a generator the reverse: nowhere can all drawn pictures be
    put on one side of the real ones at once, so no kind of picture is worth dropping (Huang, Gokaslan, Kuleshov,
    Tompkin, "The GAN is dead; long live the GAN!", 2024, arXiv:2501.05441).
    """
    return functional.softplus(behind - ahead).mean()


def gradient_penalty(critic: Discriminator, real: Tensor, fake: Tensor, shares: Tensor) -> Tensor:
    """E[(|grad critic(x)| - 1)^2] (WGAN-GP: Gulrajani et al. 2017, arXiv:1704.00028, eq. 3); weighted by 10 there.

    x lies between a real and a fake picture. The critic must score each picture by itself: no batch norm.

    Args:
        critic: pictures (N, ...) float32 -> scores (N,).
        real: (N, ...) float32.
        fake: the same shape; detached here.
        shares: (N,) float32, 0..1, uniform: how much of each x is real.
    """
    share = shares.reshape(-1, *[1] * (real.ndim - 1))
    between = share * real.detach() + (1 - share) * fake.detach()
    lengths: Tensor = _gradient(critic, between).norm(dim=1)
    return (lengths - 1).square().mean()


def r1_penalty(discriminator: Discriminator, real: Tensor) -> Tensor:
    """E[|grad discriminator(real)|^2] / 2 (Mescheder et al. 2018, arXiv:1801.04406, eq. 9), to be weighted by gamma.

    Of drawn pictures in place of real ones it is R2 (eq. 10).
    """
    return _gradient(discriminator, real.detach()).square().sum(1).mean() / 2


def lazy_r1_penalty(discriminator: Discriminator, real: Tensor, step: int, every: int = 16) -> Tensor:
    """`every` times `r1_penalty` at each `every`-th step, 0 at the others: the same on average, and far cheaper.

    Lazy regularisation: Karras et al. 2020, arXiv:1912.04958, appendix B (every = 16).
    """
    return every * r1_penalty(discriminator, real) if step % every == 0 else real.new_zeros(())


def _gradient(scored_by: Discriminator, pictures: Tensor) -> Tensor:
    """The gradient of each picture's score(s) with respect to that picture, (N, numbers of a picture)."""
    at = pictures.requires_grad_(True)
    (gradient,) = torch.autograd.grad(scored_by(at).sum(), at, create_graph=True)
    return gradient.flatten(1)
