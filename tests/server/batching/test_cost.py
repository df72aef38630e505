"""What work costs, as arithmetic."""

import pytest

from server.batching.cost import MAX_LANE_S, NEWEST_WEIGHT, SHORT_S, CostModel


def measured(lanes: int, items: int = 1, nbytes: int = 4, device_s: float = 1.0) -> CostModel:
    cost = CostModel(lanes)
    cost.begin(nbytes)
    cost.end(items, nbytes, device_s)
    return cost


def test_nothing_is_known_before_a_batch_ran() -> None:
    cost = CostModel(2)
    assert (cost.second_per_byte, cost.is_short, cost.takes_short(4), cost.max_items(8)) == (0.0, False, False, 8)


def test_the_newest_batch_has_a_tenth_of_the_weight() -> None:
    cost = measured(lanes=1, device_s=4.0)
    cost.end(items=1, nbytes=4, device_s=8.0)
    assert cost.second_per_byte == pytest.approx(1.0 + NEWEST_WEIGHT * (2.0 - 1.0))


def test_what_runs_is_counted_until_it_ended() -> None:
    cost = CostModel(1)
    cost.begin(100)
    cost.begin(20)
    cost.end(items=1, nbytes=100, device_s=1.0)
    assert cost.running_bytes == 20


def test_a_cpu_batch_is_what_a_lane_computes_in_the_longest_useful_time() -> None:
    item_s = MAX_LANE_S / 8  # of the whole device: twice that on one of two lanes
    assert measured(lanes=2, device_s=item_s).max_items(32) == 4
    assert measured(lanes=2, device_s=item_s).max_items(3) == 3
    assert measured(lanes=2, device_s=10.0).max_items(32) == 1
    assert measured(lanes=1, device_s=item_s).max_items(32) == 32, "a GPU gains from every item"


def test_short_is_below_the_threshold_by_item_and_by_bytes() -> None:
    cost = measured(lanes=2, nbytes=4, device_s=SHORT_S / 2)
    assert cost.is_short
    assert cost.takes_short(4)
    assert not cost.takes_short(8)
    assert not measured(lanes=2, device_s=SHORT_S).is_short
