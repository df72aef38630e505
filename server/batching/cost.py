"""What a model's work costs on one device, learned from the batches that ran.

A batch costs something by itself and something for each byte of its inputs. An estimate may be wrong: a first batch
that was held up, a process that was stopped for seconds. So both are medians of the newest batches, and what an
estimate rejects is rejected only while other work is waiting (`Batcher`): an idle device takes the next job whatever
the estimate says, and learns from it.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence

# Batches that a median is taken of, and pairs of batches.
KEPT = 15
# Two batches tell the fixed cost if one is so many times as large as the other.
APART = 2.0
# What changes the estimate of a small batch by less is no news.
NEWS = 0.1
# The largest fixed cost, as a multiple of what the larger batch of a pair costs without it.
MOST_FIXED = 64.0
# On a CPU throughput is flat above batch 4: a longer batch only adds latency for its first item.
MAX_LANE_S = 0.04
# An item of so much input is an image of some size: a run of several takes their memory at once, often gigabytes.
LARGE_BYTES = 1 << 16
# Below this, handing an item from thread to thread is a good part of its time.
SHORT_S = 0.005


class CostModel:
    """One model's cost, in seconds of one whole device. Loop thread only.

    Cost is estimated by bytes of input and by size class, a power of two of the bytes of an item: a byte of a 1x1 image
    costs far more than one of a large image. A size that has not run yet costs what the nearest one does.
    """

    def __init__(self, lanes: int, is_cpu: bool = False) -> None:
        """`is_cpu`: several lanes are a CPU's in any case."""
        self._lanes = lanes
        self._is_cpu = is_cpu or lanes > 1
        self.running_s = 0.0  # what was estimated for the batches that run now
        self._by_bytes: dict[int, _Line] = {}  # by size class
        self._by_items = _Line()
        self.is_short = False  # whether an item is known to take less than SHORT_S
        self.is_steady = True  # whether a run's time follows from its shapes alone
        # When the last failed run ended, and when the newest one that ended well began. From any thread.
        self.failed_at = self.sound_at = 0.0
        self._useful_items = math.inf  # beyond these a longer batch gains little
        self._priced: dict[tuple[int, int], tuple[float, float]] = {}  # the last one, until the next batch

    def seconds(self, nbytes: int, item_bytes: int) -> float:
        """About how long a batch of `nbytes` takes, in items of `item_bytes`; 0 if nothing ran yet."""
        return self._line(item_bytes).at(nbytes)

    def fixed_s(self, item_bytes: int) -> float:
        """What of that does not depend on `nbytes`."""
        return self.price(item_bytes, 1)[1]

    def second_per_byte(self, item_bytes: int, max_batch_size: int) -> float:
        """Of many items of `item_bytes`, in batches as long as they are useful; 0 if nothing ran yet."""
        return self.price(item_bytes, max_batch_size)[0]

    def price(self, item_bytes: int, max_batch_size: int) -> tuple[float, float]:
        """`second_per_byte` and `fixed_s`, in one call, since every request needs them twice."""
        found = self._priced.get((item_bytes, max_batch_size))
        if found is None:
            line = self._line(item_bytes)
            nbytes = min(max_batch_size, self._useful_items) * item_bytes
            found = line.slope * (nbytes + line.offset) / max(1, nbytes), line.slope * line.offset
            self._priced = {(item_bytes, max_batch_size): found}
        return found

    def learn(self, items: int, nbytes: int, device_s: float) -> None:
        """Takes in what a batch cost, from its start until its callers were answered."""
        self._priced = {}
        size = (nbytes // items).bit_length()
        if size not in self._by_bytes:
            self._by_bytes[size] = _Line()
        self._by_bytes[size].add(max(1, nbytes), device_s)
        self._by_items.add(items, device_s)
        line = self._by_items
        self.is_short = 0.0 < line.at(1) < SHORT_S
        if self._is_cpu and line.slope:
            self._useful_items = max(1, int(self._useful(line)))

    def max_items(self, max_batch_size: int, item_bytes: int = 0) -> int:
        """Items beyond which a longer batch gains little: on a CPU, what a lane computes in MAX_LANE_S, or what costs
        as much as the batch by itself. Large items run one by one until one of their size has run."""
        useful = self._useful_items
        if item_bytes >= LARGE_BYTES and self._is_cpu:
            line = self._by_bytes.get(item_bytes.bit_length())
            useful = min(useful, max(1, self._useful(line) // item_bytes) if line and line.slope else 1)
        return int(min(max_batch_size, useful))

    def is_brief(self, items: int) -> bool:
        """Whether a batch of so many is known to take no longer than MAX_LANE_S."""
        return 0.0 < self._by_items.at(items) <= MAX_LANE_S

    def _useful(self, line: "_Line") -> float:
        """The size beyond which a batch gains little."""
        return max(MAX_LANE_S / (line.slope * self._lanes) - line.offset, line.offset)

    def _line(self, item_bytes: int) -> "_Line":
        known, size = self._by_bytes, item_bytes.bit_length()
        return known.get(size) or (known[min(known, key=lambda each: abs(each - size))] if known else _NOTHING)


def second_per_byte(costs: Sequence[tuple[CostModel, int]], item_bytes: int, max_batch_size: int = 1) -> float:
    """Of all devices together, in items of `item_bytes`; 0 before anything ran.

    `costs`: of each device, with the number of models that have work there: they take turns, so each other one
    stretches this queue. A device that has not run the model yet is taken to be like those that have.
    """
    rates = [
        1.0 / (seconds * max(1, models))
        for cost, models in costs
        if (seconds := cost.second_per_byte(item_bytes, max_batch_size)) > 0.0
    ]
    return len(rates) / (sum(rates) * len(costs)) if rates else 0.0


class _Line:
    """Cost by size of the newest batches: slope * (size + offset).

    The slope is a lower median over batches. One outlier never decides, not even the first batch: from the second on
    the smaller one counts. The offset is a lower median over pairs of batches, one after the other and APART in size:
    it stays when all batches are of one size, and no batch has more than one say in it.
    """

    __slots__ = ("_newest", "_offsets", "_slopes", "_unpaired", "offset", "slope")

    def __init__(self) -> None:
        self._newest: deque[tuple[float, float]] = deque()  # size, seconds
        self._slopes: list[float] = []  # of those, sorted
        self._offsets: deque[float] = deque(maxlen=KEPT)
        self._unpaired: tuple[float, float] | None = None
        self.offset = self.slope = 0.0

    def at(self, size: float) -> float:
        """The cost of a batch; 0 before the first."""
        return self.slope * (size + self.offset)

    def add(self, size: float, seconds: float) -> None:
        """Takes in a batch."""
        if len(self._newest) == KEPT:
            oldest = self._newest.popleft()
            del self._slopes[bisect_left(self._slopes, oldest[1] / (oldest[0] + self.offset))]
        self._newest.append((size, seconds))
        insort(self._slopes, seconds / (size + self.offset))
        if self._unpaired is not None and not 1 / APART < size / self._unpaired[0] < APART:
            self._pair((size, seconds), self._unpaired)
            self._unpaired = None
        else:
            self._unpaired = (size, seconds)
        self.slope = self._slopes[(len(self._slopes) - 1) // 2]

    def _pair(self, *pair: tuple[float, float]) -> None:
        small, large = sorted(pair)
        self._offsets.append(_offset(small, large))
        offset = sorted(self._offsets)[(len(self._offsets) - 1) // 2]
        if abs(offset - self.offset) > NEWS * (small[0] + self.offset):
            self.offset = offset
            self._slopes = sorted(seconds / (size + offset) for size, seconds in self._newest)


_NOTHING = _Line()


def _offset(small: tuple[float, float], large: tuple[float, float]) -> float:
    """Where the line through two batches meets the axis of sizes: its fixed cost, in sizes."""
    most = MOST_FIXED * large[0]
    rise = large[1] - small[1]
    if rise <= 0.0:
        return most
    return min(most, max(0.0, small[1] * (large[0] - small[0]) / rise - small[0]))
