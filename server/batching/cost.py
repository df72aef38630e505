"""What a model's work costs on one device, learned from the batches that ran.

An estimate may be wrong: a first batch that was held up, a process that was stopped for seconds. So it is a median of
the newest batches, and what it rejects is rejected only while other work is waiting (`Batcher`): an idle device takes
the next job whatever the estimate says, and learns from it.
"""

from collections import deque
from collections.abc import Sequence

# Batches that a median is taken of.
KEPT = 15
# On a CPU throughput is flat above batch 4: a longer batch only adds latency for its first item.
MAX_LANE_S = 0.04
# Below this, handing an item from thread to thread is a good part of its time.
SHORT_S = 0.005


class CostModel:
    """One model's cost, in seconds of one whole device. Loop thread only.

    Cost is estimated by bytes of input and by size class, a power of two of the bytes of an item: a byte of a 1x1 image
    costs far more than one of a large image. A size that has not run yet costs what the nearest one does.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self.running_s = 0.0  # what was estimated for the batches that run now
        self._second_per_byte: dict[int, _Median] = {}  # by size class
        self._second_per_item = _Median()
        self.is_short = False  # whether an item is known to take less than SHORT_S

    def seconds(self, nbytes: int, item_bytes: int) -> float:
        """About how long `nbytes` take on the whole device, in items of `item_bytes`; 0 if nothing ran yet."""
        known = self._second_per_byte
        found = known.get(item_bytes.bit_length())
        if found is None:
            if not known:
                return 0.0
            found = known[min(known, key=lambda size: abs(size - item_bytes.bit_length()))]
        return nbytes * found.value

    def learn(self, items: int, nbytes: int, device_s: float) -> None:
        """Takes in what a batch cost, from its start until its callers were answered."""
        size = (nbytes // items).bit_length()
        if size not in self._second_per_byte:
            self._second_per_byte[size] = _Median()
        self._second_per_byte[size].add(device_s / max(1, nbytes))
        self._second_per_item.add(device_s / items)
        self.is_short = 0.0 < self._second_per_item.value < SHORT_S

    def max_items(self, max_batch_size: int) -> int:
        """Items beyond which a longer batch gains nothing: on a CPU, what a lane computes in MAX_LANE_S."""
        if self._lanes == 1 or not self._second_per_item.value:
            return max_batch_size
        return min(max_batch_size, max(1, int(MAX_LANE_S / (self._second_per_item.value * self._lanes))))


def second_per_byte(costs: Sequence[tuple[CostModel, int]], item_bytes: int) -> float:
    """Of all devices together, in items of `item_bytes`; 0 before anything ran.

    `costs`: of each device, with the number of models that have work there: they take turns, so each other one
    stretches this queue. A device that has not run the model yet is taken to be like those that have.
    """
    rates = [
        1.0 / (seconds * max(1, models)) for cost, models in costs if (seconds := cost.seconds(1, item_bytes)) > 0.0
    ]
    return len(rates) / (sum(rates) * len(costs)) if rates else 0.0


class _Median:
    """Lower median of the newest values; 0 before the first. One outlier never decides, not even the first value:
    from the second on the smaller one counts."""

    __slots__ = ("_newest", "value")

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=KEPT)
        self.value = 0.0

    def add(self, value: float) -> None:
        self._newest.append(value)
        self.value = sorted(self._newest)[(len(self._newest) - 1) // 2]
