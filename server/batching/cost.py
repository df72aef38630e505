"""What a model's work costs on one device, learned from the batches that ran, and what the queue will cost."""

from collections.abc import Iterable, Sequence

# Weight of the newest batch in the running means.
NEWEST_WEIGHT = 0.1
# On a CPU throughput is flat above batch 4: a longer batch only adds latency for its first item.
MAX_LANE_S = 0.04
# Below this, handing an item from thread to thread is a good part of its time.
SHORT_S = 0.005


class CostModel:
    """Running means of one model's cost, in seconds of one whole device, and what of it runs there. Loop thread only.

    Cost is estimated by bytes of input, since a larger image takes longer, and by items, to size batches.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self.running_bytes = 0
        self.second_per_byte = 0.0  # 0 until a batch ran
        self._second_per_item = 0.0

    @property
    def is_short(self) -> bool:
        """Whether an item is known to take less than SHORT_S."""
        return 0.0 < self._second_per_item < SHORT_S

    def begin(self, nbytes: int) -> None:
        """Notes that a batch of so many bytes was formed."""
        self.running_bytes += nbytes

    def end(self, items: int, nbytes: int, device_s: float) -> None:
        """Takes the batch's cost, from its start until its callers are answered, into the means."""
        self.running_bytes -= nbytes
        self.second_per_byte = _mean(self.second_per_byte, device_s / max(1, nbytes))
        self._second_per_item = _mean(self._second_per_item, device_s / items)

    def takes_short(self, nbytes: int) -> bool:
        """Whether so many bytes of input are known to take less than SHORT_S on the whole device."""
        return 0.0 < nbytes * self.second_per_byte < SHORT_S

    def max_items(self, max_batch_size: int) -> int:
        """Items beyond which a longer batch gains nothing: on a CPU, what a lane computes in MAX_LANE_S."""
        if self._lanes == 1 or not self._second_per_item:
            return max_batch_size
        return min(max_batch_size, max(1, int(MAX_LANE_S / (self._second_per_item * self._lanes))))


def min_second_per_byte(costs: Iterable[CostModel]) -> float:
    """Of the fastest device; 0 if one of them was not measured yet."""
    return min(cost.second_per_byte for cost in costs)


def wait_s(costs: Sequence[tuple[CostModel, int]], waiting_bytes: int) -> float:
    """About how long what runs and what waits will take, 0 before anything was measured.

    `costs`: of each device, with the number of models that have work there: they take turns, so each other one
    stretches this queue.
    """
    rates = [1.0 / (cost.second_per_byte * max(1, models)) for cost, models in costs if cost.second_per_byte]
    if not rates:
        return 0.0
    # A device that has not run the model yet is taken to be like those that have.
    bytes_per_s = sum(rates) / len(rates) * len(costs)
    return (waiting_bytes + sum(cost.running_bytes for cost, _ in costs)) / bytes_per_s


def _mean(before: float, newest: float) -> float:
    return before + NEWEST_WEIGHT * (newest - before) if before else newest
