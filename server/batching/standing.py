"""A rejection that stands: until something leaves the queue or a batch ends, what is like it would be rejected again.

At ten times the capacity nearly every call is rejected, and a batch leaves the queue only every few milliseconds. So
what decides the first rejection of a kind decides the next hundred of it, for a fraction of the processor time.
"""

from collections.abc import Callable
from typing import Self

from server.errors import Overloaded
from server.observability.model_statistics import ModelStatistics


class Standstill:
    """A time in which a queue does not get shorter and no batch ends. Loop thread only."""

    __slots__ = ("_at_end", "_is_over")

    def __init__(self) -> None:
        self._at_end: list[Callable[[], object]] = []
        self._is_over = False

    def then(self, function: Callable[[], object]) -> None:
        """Has `function` called at its end; now, if it is over."""
        if self._is_over:
            function()
        else:
            self._at_end.append(function)

    def end(self) -> None:
        """Something has left the queue, or a batch has ended."""
        self._is_over = True
        for function in self._at_end:
            function()


class TooLate(Overloaded):
    """Rejected by estimate: the answer would come too late.

    Attributes:
        queue: the first part of its text.
        least_s: a request of the same client and size is rejected as well if it has less time than that; one without a
            deadline if this one has none.
        standstill: for how long; None: something else but size and client has decided it.
        statistics: where it counts.
    """

    queue: str
    least_s: float
    standstill: Standstill | None
    statistics: ModelStatistics

    @classmethod
    def of(
        cls,
        items: int,
        wait_s: float,
        left_s: float,
        least_s: float,
        has_deadline: bool,
        standstill: Standstill | None,
        statistics: ModelStatistics,
    ) -> Self:
        """`items` wait; the answer would take `wait_s`, and there are `left_s`, of which a part is for the way."""
        queue = f"{items} items wait; the answer would take about {wait_s:.3f} s"
        time = _deadline(left_s) if has_deadline else f"the target for requests without a deadline is {left_s:.3f} s"
        error = cls(f"{queue}, {time}{'' if has_deadline else ' (queue_target_s)'}", wait_s * (1 - left_s / least_s))
        error.queue, error.least_s, error.standstill, error.statistics = queue, least_s, standstill, statistics
        return error

    def with_deadline(self, left_s: float) -> str:
        """The text for a request like it."""
        return f"{self.queue}, {_deadline(left_s)}"


def _deadline(left_s: float) -> str:
    return f"the deadline is in {left_s:.3f} s"
