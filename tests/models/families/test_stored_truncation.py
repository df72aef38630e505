"""BigGAN-deep's truncation: which statistics a psi takes, and how a normal number is cut off."""

import math
from statistics import NormalDist

import pytest
import torch

from models.families.residual.stored_truncation import StatisticsWeights, cut_off

WEIGHTS = StatisticsWeights(51)


def of_the_repository(psi: float) -> torch.Tensor:
    """What `truncation / step_size` gives there for a Python float."""
    fraction, start = math.modf(psi / (1.0 / 50))
    expected = torch.zeros(51)
    expected[int(start)] = fraction if fraction else 1.0
    if fraction:
        expected[int(start) + 1] = 1.0 - fraction
    return expected


def test_every_stored_truncation_takes_the_statistics_that_the_repository_takes() -> None:
    psis = [round(0.02 * step, 2) for step in range(1, 51)]
    expected = torch.stack([of_the_repository(psi) for psi in psis])
    torch.testing.assert_close(WEIGHTS(torch.tensor(psis)), expected, rtol=0, atol=1e-6)
    assert expected[13 - 1, 13] == 1, "0.26 is stored"
    assert expected[29 - 1, 28] > 0.999, "0.58 is stored at 29, and the repository takes 28"


@pytest.mark.parametrize("psi", [0.013, 0.405, 0.43, 0.7501, 0.999])
def test_between_stored_truncations_the_lower_one_has_the_fraction(psi: float) -> None:
    torch.testing.assert_close(WEIGHTS(torch.tensor([psi]))[0], of_the_repository(psi), rtol=0, atol=1e-5)


def test_rows_have_their_own_truncation() -> None:
    both = WEIGHTS(torch.tensor([0.5, 1.0]))
    assert both.argmax(dim=1).tolist() == [25, 50]


def test_a_normal_number_is_cut_off_at_its_rank() -> None:
    normal = NormalDist()
    low, high = normal.cdf(-2.0), normal.cdf(2.0)
    latents = torch.linspace(-4.0, 4.0, 401)
    expected = [normal.inv_cdf(low + (high - low) * normal.cdf(value)) for value in latents.tolist()]
    torch.testing.assert_close(cut_off(latents), torch.tensor(expected), rtol=0, atol=3e-6)
    assert cut_off(torch.tensor([-40.0, 40.0])).abs().max() <= 2.00001
