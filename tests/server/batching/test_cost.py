"""What work costs, as arithmetic."""

import pytest

from server.batching.cost import KEPT, MAX_LANE_S, SHORT_S, CostModel


def measured(lanes: int, *device_s: float, items: int = 1, nbytes: int = 4) -> CostModel:
    cost = CostModel(lanes)
    for each in device_s:
        cost.learn(items, nbytes, each)
    return cost


def test_nothing_is_known_before_a_batch_ran() -> None:
    cost = CostModel(2)
    assert (cost.seconds(4, 4), cost.is_short, cost.max_items(8)) == (0.0, False, 8)


@pytest.mark.parametrize("at", [0, 1, 3, 9])
def test_one_batch_that_was_held_up_does_not_count(at: int) -> None:
    taken = [1.0] * 10
    taken[at] = 1000.0
    assert measured(1, *taken).seconds(4, 4) == 1.0


def test_a_first_batch_that_was_held_up_is_forgotten_with_the_second() -> None:
    assert measured(1, 1000.0).seconds(4, 4) == 1000.0, "there is nothing else to go by"
    assert measured(1, 1000.0, 1.0).seconds(4, 4) == 1.0


def test_a_change_that_lasts_is_learned_within_half_of_the_batches_kept() -> None:
    assert measured(1, *[1.0] * 100, *[3.0] * (KEPT // 2 + 1)).seconds(4, 4) == 3.0


def test_sizes_are_learned_apart_and_an_unknown_one_is_like_the_nearest() -> None:
    cost = measured(1, 1.0, nbytes=3)  # a 1x1 image: mostly overhead
    cost.learn(1, 3_000_000, 10.0)
    assert cost.seconds(3, 3) == 1.0
    assert cost.seconds(6_000_000, 3_000_000) == pytest.approx(20.0)
    assert cost.seconds(1_000_000, 1_000_000) == pytest.approx(10 / 3)


def test_a_cpu_batch_is_what_a_lane_computes_in_the_longest_useful_time() -> None:
    item_s = MAX_LANE_S / 8  # of the whole device: twice that on one of two lanes
    assert measured(2, item_s).max_items(32) == 4
    assert measured(2, item_s).max_items(3) == 3
    assert measured(2, 10.0).max_items(32) == 1
    assert measured(1, item_s).max_items(32) == 32, "a GPU gains from every item"


def test_short_is_below_the_threshold() -> None:
    assert measured(2, SHORT_S / 2).is_short
    assert not measured(2, SHORT_S).is_short
