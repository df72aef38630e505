"""An engine of uint8 images, and beside it the same network for images of 16 bits, opened when the first of them comes.

The second takes and gives float32 in [0, 1] under the same names; which one runs a batch is the type of its arrays.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.spec import TensorSpec
from server.engines.base import Arrays, Engine, Stoppable, Trimmable

FLOAT = np.dtype(np.float32)


class FloatVariantEngine:
    """`engine`, and what `open_float` opens.

    Its inputs and outputs are those of `engine`: tensor requests for floats are refused as ever.
    """

    def __init__(self, engine: Engine, image: str, open_float: Callable[[], Engine]) -> None:
        """Takes ownership of the engine. `image`: the name of the input that is the image."""
        self.engine = engine
        self.inputs: tuple[TensorSpec, ...] = engine.inputs
        self.outputs: tuple[TensorSpec, ...] = engine.outputs
        self._image = image
        self._open = open_float
        self._float: Engine | None = None
        self._running = 0  # runs of the second engine
        self._lock = threading.Lock()
        if isinstance(engine, Stoppable):  # else nobody shall believe that a run can be ended
            self.stop = self._stop
            self.interrupt = self._interrupt

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses what the engine of uint8 images does; see `Engine`."""
        self.engine.check(shapes)

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        """The outputs by name for one batch; see `Engine`. Floats show what rounding to 8 bits hides, so their items
        run one by one: no engine's choice for a batch of several can change an image."""
        image = arrays[self._image]
        if image.dtype != FLOAT:
            return self.engine.run(arrays, whole_device)
        engine = self._begin()
        try:
            items = [
                engine.run({name: array[index : index + 1] for name, array in arrays.items()}, whole_device)
                for index in range(len(image))
            ]
        finally:
            with self._lock:
                self._running -= 1
        return (
            items[0] if len(items) == 1 else {name: np.concatenate([each[name] for each in items]) for name in items[0]}
        )

    def trim(self) -> None:
        """Gives back what the engine can, and closes the second one: it is opened again in the time of a small run."""
        if isinstance(self.engine, Trimmable):
            self.engine.trim()
        with self._lock:
            unused, self._float = (self._float, None) if not self._running else (None, self._float)
        if unused is not None:
            unused.close()

    def close(self) -> None:
        """Frees both."""
        self.engine.close()
        if self._float is not None:
            self._float.close()

    def _begin(self) -> Engine:
        with self._lock:
            if self._float is None:
                self._float = self._open()
            self._running += 1
            return self._float

    def _stop(self) -> None:
        for engine in (self.engine, self._float):
            if isinstance(engine, Stoppable):
                engine.stop()

    def _interrupt(self) -> None:
        for engine in (self.engine, self._float):
            if isinstance(engine, Stoppable):
                engine.interrupt()
