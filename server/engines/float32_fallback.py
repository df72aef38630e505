"""An engine of less than float32 whose graph says which rows came out finite; the others are computed again."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.spec import FINITE, TensorSpec
from server.engines.base import Arrays, Engine
from server.errors import StartError


class CheckedEngine:
    """`engine`, and for rows that overflow in it `precise`: the same network in float32. Both say which are finite.

    `fell_back` is told, on the lane's thread, how many rows of an answer came from `precise`.
    """

    def __init__(self, engine: Engine, precise: Engine, fell_back: Callable[[int], None]) -> None:
        """Takes both engines over: `close` closes them.

        Raises:
            StartError: they are not of the same network.
        """
        for kind, ours, theirs in (
            ("inputs", engine.inputs, precise.inputs),
            ("outputs", engine.outputs, precise.outputs),
        ):
            if _signature(ours) != _signature(theirs):
                raise StartError(
                    f"the float32 graph beside an engine of less precision has the {kind} "
                    f"{', '.join(sorted(_signature(theirs)))}; the engine has {', '.join(sorted(_signature(ours)))}"
                )
        self.inputs = engine.inputs
        self.outputs = tuple(output for output in engine.outputs if output.name != FINITE)
        self._engine = engine
        self._precise = precise
        self._fell_back = fell_back
        self._warm = False

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses what either engine does; see `Engine`."""
        self._engine.check(shapes)
        self._precise.check(shapes)

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        """The outputs by name for one batch, without the flags; see `Engine`. The first run, warm-up's, runs both.

        Raises:
            ArithmeticError: a row is not finite in float32 either.
        """
        if not self._warm:
            with contextlib.suppress(ArithmeticError):  # where nothing is more precise
                self._precise.run(arrays, whole_device)
            self._warm = True
        outputs = self._engine.run(arrays, whole_device)
        finite = outputs.pop(FINITE).reshape(-1)
        if finite.all():
            return outputs
        rows = np.flatnonzero(~finite)
        if len(rows) == len(finite):  # also of a model without a batch axis, whose arrays have no rows to select
            outputs = self._again(arrays, whole_device)
        else:
            again = self._again(
                {name: np.ascontiguousarray(array[rows]) for name, array in arrays.items()}, whole_device
            )
            for name, array in outputs.items():
                outputs[name] = array if array.flags.writeable else array.copy()
                outputs[name][rows] = again[name]
        self._fell_back(len(rows))
        return outputs

    def close(self) -> None:
        """Frees both engines."""
        self._engine.close()
        self._precise.close()

    def _again(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        outputs = self._precise.run(arrays, whole_device)
        finite = outputs.pop(FINITE).reshape(-1)
        if not finite.all():
            raise ArithmeticError(
                f"{np.count_nonzero(~finite)} of {len(finite)} rows computed again in float32 "
                "hold NaN or infinity there too"
            )
        return outputs


def _signature(tensors: tuple[TensorSpec, ...]) -> set[str]:
    return {f"{tensor.name} {tensor.dtype}" for tensor in tensors}
