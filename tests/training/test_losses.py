"""The losses, against values worked out by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from training import losses

REAL = torch.tensor([0.0, 2.0])
FAKE = torch.tensor([-3.0, 1.0])
Pair = Callable[[Tensor, Tensor], Tensor]
Single = Callable[[Tensor], Tensor]


def log_sigmoid(x: float) -> float:
    return -math.log(1 + math.exp(-x))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (
            losses.minimax_discriminator,
            -(log_sigmoid(0) + log_sigmoid(2)) / 2 - (log_sigmoid(3) + log_sigmoid(-1)) / 2,
        ),
        (losses.least_squares_discriminator, ((1 + 1) / 2 + (9 + 1) / 2) / 2),
        (losses.wasserstein_critic, -1.0 - 1.0),
        (losses.hinge_discriminator, (1 + 0) / 2 + (0 + 2) / 2),
    ],
)
def test_a_discriminators_loss_is_its_papers(loss: Pair, expected: float) -> None:
    assert loss(REAL, FAKE).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (losses.non_saturating_generator, -(log_sigmoid(-3) + log_sigmoid(1)) / 2),
        (losses.least_squares_generator, (16 + 0) / 2 / 2),
        (losses.wasserstein_generator, 1.0),
        (losses.hinge_generator, 1.0),
    ],
)
def test_a_generators_loss_is_its_papers(loss: Single, expected: float) -> None:
    assert loss(FAKE).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        losses.non_saturating_generator,
        losses.least_squares_generator,
        losses.wasserstein_generator,
        losses.hinge_generator,
    ],
)
def test_a_generator_that_descends_raises_the_scores_of_its_fakes(loss: Single) -> None:
    scores = torch.tensor([-2.0, 0.5], requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(scores), scores)
    assert (gradient < 0).all()


def test_the_generators_gradient_does_not_vanish_if_all_fakes_are_found_out() -> None:
    found_out = torch.tensor([-20.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(losses.non_saturating_generator(found_out), found_out)
    assert gradient.item() == pytest.approx(-1.0, abs=1e-6)


def test_logits_of_any_size_give_finite_losses() -> None:
    assert losses.minimax_discriminator(torch.tensor([-1e4]), torch.tensor([1e4])).item() == pytest.approx(2e4)


def linear(weights: Tensor) -> losses.Discriminator:
    """A critic whose gradient is `weights` everywhere."""
    return lambda pictures: pictures.flatten(1) @ weights


@pytest.mark.parametrize("weights", [(3.0, 4.0), (0.6, 0.8), (0.0, 0.5)])
def test_the_gradient_penalty_of_a_linear_critic_is_of_its_weights_norm(weights: tuple[float, float]) -> None:
    real, fake = torch.randn(5, 2, 1, 1), torch.randn(5, 2, 1, 1)
    found = losses.gradient_penalty(linear(torch.tensor(weights)), real, fake, torch.rand(5))
    assert found.item() == pytest.approx((math.hypot(*weights) - 1) ** 2, abs=1e-6)


def test_the_gradient_penalty_is_taken_between_real_and_fake() -> None:
    """critic = x^2 / 2 has the gradient x: at share 0.75 between 4 and 0 that is 3."""
    shares = torch.tensor([0.75])
    found = losses.gradient_penalty(lambda x: x.square() / 2, torch.tensor([[4.0]]), torch.tensor([[0.0]]), shares)
    assert found.item() == pytest.approx((3 - 1) ** 2)


def test_the_gradient_penalty_pulls_on_the_critic_and_not_on_the_fakes() -> None:
    weights = torch.tensor([3.0, 4.0], requires_grad=True)
    fake = torch.randn(5, 2, requires_grad=True)
    losses.gradient_penalty(linear(weights), torch.randn(5, 2), fake, torch.rand(5)).backward()  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad, 2 * (5 - 1) * torch.tensor([0.6, 0.8]))
    assert fake.grad is None


def test_the_r1_penalty_is_half_the_mean_squared_gradient_at_real_pictures() -> None:
    """discriminator = x^2 / 2 per number has the gradient x: (1 + 4) / 2 and (9 + 16) / 2."""
    real = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    found = losses.r1_penalty(lambda x: x.square().sum(1) / 2, real)
    assert found.item() == pytest.approx((5 / 2 + 25 / 2) / 2)
    assert not real.requires_grad


def test_a_lazy_r1_penalty_costs_nothing_but_at_every_sixteenth_step_and_averages_to_the_same() -> None:
    calls = 0

    def discriminator(pictures: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return pictures.square().sum(1) / 2

    real = torch.tensor([[1.0, 2.0]])
    found = [losses.lazy_r1_penalty(discriminator, real, step).item() for step in range(32)]
    assert calls == 2
    assert sum(found) / 32 == pytest.approx(5 / 2)
