"""What a model's work costs on its device, learned from the batches that ran."""

# Weight of the newest batch in the running means.
NEWEST = 0.1
# A CPU runs four rows as efficiently as forty; a longer batch only keeps its first row from its caller.
ENOUGH_S = 0.04
# Below this, handing a row from thread to thread is a good part of its time.
BRIEF_S = 0.005


class Pace:
    """Running means of one model's cost, in seconds of one whole device, and what of it runs there. Loop thread only.

    Cost is reckoned by bytes of input, since a larger picture takes longer, and by rows, to size batches.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self.running_bytes = 0
        self.second_per_byte = 0.0  # 0 until a batch ran
        self._second_per_row = 0.0

    @property
    def brief(self) -> bool:
        """Whether a row is known to take less than BRIEF_S."""
        return 0.0 < self._second_per_row < BRIEF_S

    def is_brief(self, nbytes: int) -> bool:
        """Whether so many bytes of input are known to take less than BRIEF_S."""
        return 0.0 < self.seconds(nbytes) < BRIEF_S

    def begins(self, nbytes: int) -> None:
        """Notes that a batch of so many bytes was formed."""
        self.running_bytes += nbytes

    def ended(self, rows: int, nbytes: int, device_s: float) -> None:
        """Takes the batch's cost, from its start until its callers are answered, into the means."""
        self.running_bytes -= nbytes
        self.second_per_byte = _mean(self.second_per_byte, device_s / max(1, nbytes))
        self._second_per_row = _mean(self._second_per_row, device_s / rows)

    def seconds(self, nbytes: int) -> float:
        """About how long so many bytes take on the whole device."""
        return nbytes * self.second_per_byte

    def enough_rows(self, most: int) -> int:
        """Rows beyond which a longer batch gains nothing: on a CPU, what a lane computes in ENOUGH_S; else `most`."""
        if self._lanes == 1 or not self._second_per_row:
            return most
        return min(most, max(1, int(ENOUGH_S / (self._second_per_row * self._lanes))))


def _mean(before: float, newest: float) -> float:
    return before + NEWEST * (newest - before) if before else newest
