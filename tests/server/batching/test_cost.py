"""What work costs, as arithmetic."""

import pytest

from server.batching.cost import KEPT, LARGE_BYTES, MAX_LANE_S, SHORT_S, CostModel


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


def batches(cost: CostModel, *sizes: int, fixed_s: float = 0.006, item_s: float = 0.002) -> None:
    """Batches of so many items of 100 bytes."""
    for items in sizes:
        cost.learn(items, items * 100, fixed_s + items * item_s)


def test_a_batch_costs_something_by_itself_and_something_for_each_byte() -> None:
    cost = CostModel(1)
    batches(cost, 1, 8)
    assert [cost.seconds(items * 100, 100) for items in (1, 8, 32)] == pytest.approx([0.008, 0.022, 0.07])
    assert cost.fixed_s(100) == pytest.approx(0.006)
    assert cost.second_per_byte(100, 8) == pytest.approx((0.006 / 8 + 0.002) / 100), "of a queue, in full batches"
    assert cost.second_per_byte(100, 1) == pytest.approx(0.008 / 100)


def test_what_is_learned_of_batches_by_themselves_stays_while_all_are_of_one_size() -> None:
    cost = CostModel(1)
    batches(cost, 1, 8, *[8] * 100)
    assert cost.seconds(100, 100) == pytest.approx(0.008)
    batches(cost, *[8] * (KEPT // 2 + 1), fixed_s=0.012, item_s=0.004)  # another model has half of the machine
    assert cost.seconds(100, 100) == pytest.approx(0.016)


@pytest.mark.parametrize(("at", "seconds"), [(at, seconds) for at in (0, 3, 8) for seconds in (1000.0, 0.0)])
def test_one_batch_that_was_held_up_tells_nothing_of_the_others(at: int, seconds: float) -> None:
    cost = CostModel(1)
    for number, items in enumerate([1, 8, 2, 16] * 3):
        cost.learn(items, items * 100, seconds if number == at else 0.006 + items * 0.002)
    assert cost.seconds(3200, 100) == pytest.approx(0.07)
    assert cost.fixed_s(100) == pytest.approx(0.006)


def test_a_change_of_what_batches_cost_by_themselves_is_learned() -> None:
    cost = CostModel(1)
    batches(cost, *[1, 8] * 100)
    batches(cost, *[1, 8] * (KEPT // 2 + 1), fixed_s=0.05)
    assert cost.fixed_s(100) == pytest.approx(0.05)
    assert cost.seconds(800, 100) == pytest.approx(0.066)


def test_without_a_cost_of_its_own_a_batch_costs_what_its_items_do() -> None:
    cost = CostModel(1)
    batches(cost, 1, 8, 4, 16, fixed_s=0.0)
    assert cost.fixed_s(100) == 0.0
    batches(cost, *[1, 8] * KEPT, fixed_s=-0.0005)  # larger ones are slower for each item: out of the cache
    assert cost.fixed_s(100) == 0.0
    assert cost.seconds(800, 100) > 0.0


def test_a_device_to_which_all_batches_are_equal_costs_the_same_for_each() -> None:
    cost = CostModel(1)
    batches(cost, *[1, 8] * KEPT, fixed_s=0.01, item_s=0.0)
    assert cost.seconds(100, 100) == pytest.approx(0.01, rel=0.02)
    assert cost.seconds(800, 100) == pytest.approx(0.01, rel=0.02)


def test_sizes_of_items_that_have_not_run_yet_have_the_fixed_cost_of_the_nearest() -> None:
    cost = CostModel(1)
    batches(cost, 1, 8)
    assert cost.fixed_s(1_000_000) == pytest.approx(0.006)
    assert cost.seconds(1_000_000, 1_000_000) == pytest.approx(0.006 + 1_000_000 / 100 * 0.002)


def test_a_cpu_batch_is_longer_where_the_batch_costs_more_than_its_items() -> None:
    cost = CostModel(2)
    batches(cost, 1, 8, fixed_s=0.004, item_s=0.001)  # of the device: a lane takes twice that
    assert cost.max_items(64) == 16
    cost = CostModel(2)
    batches(cost, 1, 8, fixed_s=0.03, item_s=0.001)
    assert cost.max_items(64) == 30, "half of its time is the batch's own"


def test_short_is_below_the_threshold() -> None:
    assert measured(2, SHORT_S / 2).is_short
    assert not measured(2, SHORT_S).is_short


def test_large_items_run_one_by_one_on_a_cpu_until_their_size_is_known() -> None:
    item_bytes = LARGE_BYTES + 1
    assert CostModel(1).max_items(8, item_bytes) == 8, "of a GPU"
    assert CostModel(1, is_cpu=True).max_items(8, item_bytes) == 1
    cost = CostModel(2)
    assert (cost.max_items(8, item_bytes), cost.max_items(8, 100)) == (1, 8)
    cost.learn(8, 8 * 4, 0.001)  # small ones, of which eight are useful
    assert (cost.max_items(8, item_bytes), cost.max_items(8, 4)) == (1, 8)
    cost.learn(1, item_bytes, MAX_LANE_S / 8)
    assert cost.max_items(8, item_bytes) == 4
    assert cost.max_items(8, 4 * item_bytes) == 1, "of that size none has run"
