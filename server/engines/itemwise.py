"""An engine that runs the items of a batch one by one, so that an item's numbers never depend on its neighbours.

Float results differ in their last bits from batch size to batch size; where they are compared with each other, as
scores are, that may decide.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.engines.base import Arrays, Engine, Stoppable, Trimmable


class ItemwiseEngine:
    """Around an engine with a batch axis, which it owns."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.inputs = engine.inputs
        self.outputs = engine.outputs
        self.check = engine.check
        self.close = engine.close
        if isinstance(engine, Stoppable):  # else nobody shall believe that a run can be ended
            self.stop, self.interrupt = engine.stop, engine.interrupt
        if isinstance(engine, Trimmable):
            self.trim = engine.trim

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        """The outputs by name for one batch; see `Engine`."""
        n = len(next(iter(arrays.values())))
        items = [self.engine.run(_item(arrays, index), whole_device) for index in range(n)]
        return {name: np.concatenate([each[name] for each in items]) for name in items[0]}


def _item(arrays: Arrays, index: int) -> Mapping[str, NDArray[Any]]:
    return {name: array[index : index + 1] for name, array in arrays.items()}
