"""An engine of less precision than float32 whose graph says which items are finite; the others run again in float32."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.spec import FINITE, TensorSpec
from server.engines.base import Arrays, Engine, Stoppable, Trimmable
from server.errors import StartError


class FallbackEngine:
    """`engine`, and `precise`, the same network in float32, for items that overflow in it. Both say which are finite.

    `on_fallback` is called on the worker thread with the number of items of a batch that came from `precise`.
    """

    on_fallback: Callable[[int], None]

    def __init__(self, engine: Engine, precise: Engine | None) -> None:
        """Takes ownership of both engines. Without `precise` an item that is not finite makes the run fail.

        Raises:
            StartError: they are not of the same network.
        """
        if precise is not None:
            _require_same("inputs", engine.inputs, precise.inputs)
            _require_same("outputs", engine.outputs, precise.outputs)
        self.inputs = engine.inputs
        self.outputs = tuple(output for output in engine.outputs if output.name != FINITE)
        self.on_fallback = lambda items: None
        self._engine = engine
        self._precise = precise
        self._warm = False

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses what either engine does; see `Engine`."""
        self._engine.check(shapes)
        if self._precise is not None:
            self._precise.check(shapes)

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        """The outputs by name for one batch, without the flags; see `Engine`. The first run, warm-up's, runs both.

        Raises:
            ArithmeticError: an item is not finite in float32 either.
        """
        if not self._warm and self._precise is not None:
            self._precise.run(arrays, whole_device)
        self._warm = True
        outputs = self._engine.run(arrays, whole_device)
        finite = outputs.pop(FINITE).reshape(-1)
        if finite.all():
            return outputs
        items = np.flatnonzero(~finite)
        if len(items) == len(finite):  # also of a model without a batch axis, whose arrays have no items to select
            outputs = self._run_precise(arrays, whole_device)
        else:
            selected = {name: np.ascontiguousarray(array[items]) for name, array in arrays.items()}
            again = self._run_precise(selected, whole_device)
            for name, array in outputs.items():
                outputs[name] = array if array.flags.writeable else array.copy()
                outputs[name][items] = again[name]
        self.on_fallback(len(items))
        return outputs

    def stop(self) -> None:
        """Ends the runs in progress of those that can be stopped; see `Stoppable`."""
        for engine in (self._engine, self._precise):
            if isinstance(engine, Stoppable):
                engine.stop()

    def interrupt(self) -> None:
        """Likewise."""
        for engine in (self._engine, self._precise):
            if isinstance(engine, Stoppable):
                engine.interrupt()

    def trim(self) -> None:
        """Gives back the memory of those that can; see `Trimmable`."""
        for engine in (self._engine, self._precise):
            if isinstance(engine, Trimmable):
                engine.trim()

    def close(self) -> None:
        """Frees both engines."""
        self._engine.close()
        if self._precise is not None:
            self._precise.close()

    def _run_precise(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        if self._precise is None:
            raise ArithmeticError("the output holds NaN or infinity, and the model has no graph of more precision")
        outputs = self._precise.run(arrays, whole_device)
        finite = outputs.pop(FINITE).reshape(-1)
        if not finite.all():
            raise ArithmeticError(
                f"{np.count_nonzero(~finite)} of {len(finite)} items computed again in float32 "
                "hold NaN or infinity there too"
            )
        return outputs


def _require_same(kind: str, ours: tuple[TensorSpec, ...], theirs: tuple[TensorSpec, ...]) -> None:
    have, expected = ({f"{tensor.name} {tensor.dtype}" for tensor in tensors} for tensors in (theirs, ours))
    if have != expected:
        raise StartError(
            f"the float32 graph next to an engine of less precision has the {kind} {', '.join(sorted(have))}; "
            f"the engine has {', '.join(sorted(expected))}"
        )
