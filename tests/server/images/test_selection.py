"""Rules by which candidates are accepted."""

from typing import Any

import numpy as np
import pytest

from server.images.critic import Critic
from server.images.selection import MAX_TRIES, AtLeast, DiscriminatorRejection, candidate_seeds
from tests.docs.test_manifest import CRITIC, GENERATOR


@pytest.fixture
def critic() -> Critic:
    batcher: Any = None
    return Critic(GENERATOR, CRITIC, batcher)


def test_percentiles_are_of_the_label_and_end_at_the_ends(critic: Critic) -> None:
    assert [critic.percentile(score, 0) for score in (-9, -1.5, -0.75, 0, 1, 2, 9)] == [0, 0, 25, 50, 75, 100, 100]
    assert critic.percentile(-1, 1) == 0
    assert AtLeast(50).accepts(critic, 0.0, 0, seed=1)
    assert not AtLeast(50).accepts(critic, -0.1, 0, seed=1)


def test_candidates_of_neighbouring_seeds_are_all_different() -> None:
    seeds = candidate_seeds(range(5000), MAX_TRIES)
    assert len(set(seeds)) == 5000 * MAX_TRIES
    assert seeds[:2] == [0, 2654435769]
    assert candidate_seeds([2**32 - 1], 2) == [2**32 - 1, 2654435768]


def test_rejection_takes_better_images_more_often_and_a_higher_gamma_fewer(critic: Critic) -> None:
    def share(score: float, percentile: float) -> float:
        rule = DiscriminatorRejection(percentile)
        return float(np.mean([rule.accepts(critic, score, 0, seed) for seed in range(400)]))

    assert share(-1.4, 80) < share(0.0, 80) < share(1.9, 80)
    assert share(5.0, 80) == share(2.0, 80) == 1.0, "what is above every own image is always taken"
    assert share(0.0, 95) < share(0.0, 50)
    assert share(0.0, 50) == pytest.approx(0.5, abs=0.08), "at gamma itself it is even"
