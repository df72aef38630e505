"""One request at several models: what an ensemble and a pipeline of images run through.

It is admitted at all of them before the first one works, so that an overload costs nothing, and a model that is being
unloaded or replaced meanwhile still answers what was accepted. The deadline is one for all; each model forms its
batches as for any other request. Errors name the step.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

from server.batching.batcher import Admission, Batcher
from server.batching.job import Done
from server.engines.base import Arrays
from server.errors import in_step

Run: TypeAlias = Callable[[Arrays], Awaitable[Done]]


class Stage(NamedTuple):
    """What a request wants of one model; see `Batcher.admit`. `step`: for the texts of errors, "" if it is the only
    one."""

    step: str
    batcher: Batcher
    items: int
    nbytes: int
    window: int | None = None


class Chain:
    """An admitted request at every stage: leaving its context drops what still waits. Loop thread only."""

    def __init__(
        self, stages: Sequence[Stage], deadline: float | None, timeout_s: float = 0.0, priority: int = 0
    ) -> None:
        """Arguments as for `Batcher.admit`.

        Raises:
            CapacityError: one of the models rejects the request; the others have forgotten it.
        """
        self._stages = stages
        self._open: dict[int, Admission] = {}
        self._failed = -1  # the stage that failed first
        try:
            for number, stage in enumerate(stages):
                beside = [self._open[each] for each in range(number) if stages[each].batcher is stage.batcher]
                with in_step(stage.step):
                    self._open[number] = stage.batcher.admit(
                        stage.items, stage.nbytes, deadline, timeout_s, stage.window, priority, beside
                    )
        except BaseException:
            self._withdraw()
            raise

    @contextmanager
    def step(self, number: int) -> Iterator[Run]:
        """The work of stage `number`: runs its jobs, as `Admission.run` does. What goes wrong inside names the step and
        counts as this model's failure."""
        with in_step(self._stages[number].step):
            try:
                yield self._open[number].run
            except Exception:
                self._failed = number if self._failed < 0 else self._failed
                raise

    def end(self, number: int) -> None:
        """The stage has nothing left to run, and has succeeded."""
        self._open.pop(number).__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            for number in list(self._open):
                self.end(number)
            return
        if self._failed in self._open:
            self._open.pop(self._failed).__exit__(kind, error, trace)
        self._withdraw()

    def _withdraw(self) -> None:
        """Ends what is open: where everything was computed as usual, where it had begun as cancelled, and at the other
        models as if it had never come."""
        while self._open:
            number, admission = self._open.popitem()
            is_cut = admission.has_begun and admission.computed < self._stages[number].items
            error = asyncio.CancelledError() if is_cut else None
            admission.__exit__(None if error is None else type(error), error, None)
