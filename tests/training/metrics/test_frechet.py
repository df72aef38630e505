"""The Frechet distance of Gaussians whose distance is known."""

import math

import pytest
import torch

from training.metrics.frechet import Gaussian, between, distance, fit, square_root


def gaussian(mean: list[float], covariance: list[list[float]]) -> Gaussian:
    return Gaussian(torch.tensor(mean).double(), torch.tensor(covariance).double())


def test_gaussians_of_one_covariance_are_their_means_squared_distance_apart() -> None:
    covariance = [[2.0, 0.5], [0.5, 1.0]]
    found = distance(gaussian([0, 0], covariance), gaussian([3, 4], covariance))
    assert found == pytest.approx(25.0)


def test_along_the_axes_the_standard_deviations_differences_add_up() -> None:
    """diag(4, 9) and diag(1, 25): (2 - 1)^2 + (3 - 5)^2."""
    found = distance(gaussian([0, 0], [[4, 0], [0, 9]]), gaussian([0, 0], [[1, 0], [0, 25]]))
    assert found == pytest.approx(5.0)


def test_covariances_that_do_not_commute_agree_with_the_eigenvalues_of_their_product() -> None:
    one, other = [[2.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 4.0]]
    product = torch.tensor(one).double() @ torch.tensor(other).double()
    roots = torch.linalg.eigvals(product).real.sqrt().sum().item()
    assert distance(gaussian([1, 0], one), gaussian([0, 0], other)) == pytest.approx(1 + 3 + 5 - 2 * roots)


def test_a_square_root_squared_is_the_matrix_also_where_it_is_singular() -> None:
    matrix = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(square_root(matrix) @ square_root(matrix), matrix)


def test_equal_sets_are_at_no_distance_and_the_order_of_two_does_not_matter() -> None:
    random = torch.Generator().manual_seed(0)
    one, other = torch.randn(50, 8, generator=random), 2 * torch.randn(60, 8, generator=random) + 1
    assert between(one, one) == pytest.approx(0, abs=1e-9)
    assert between(one, other) == pytest.approx(between(other, one))
    assert between(one, other) > 8


def test_a_fit_has_the_mean_and_the_unbiased_covariance() -> None:
    fitted = fit(torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
    assert fitted.mean.tolist() == [2, 2]
    assert fitted.covariance.tolist() == [[2, 4], [4, 8]]
    assert math.isclose(fit(torch.tensor([[1.0], [3.0]])).covariance.item(), 2)
