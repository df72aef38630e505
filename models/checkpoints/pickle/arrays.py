"""numpy's arrays and numbers in pickles: what the names in them make. Source: `numpy._core.multiarray`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.checkpoints.pickle.machine import DAMAGED, Budget, Fillable, Name, Part, PickleError

DTYPES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


@dataclass
class Dtype(Fillable):
    """A plain numeric numpy dtype."""

    code: str
    order: str = "="

    def fill(self, state: Any) -> None:
        """Takes the byte order."""
        if state[1] not in ("<", ">", "|", "="):
            raise PickleError(f"{DAMAGED}: a numpy dtype without a byte order")
        self.order = state[1]

    def read(self, data: bytes | str) -> NDArray[np.generic]:
        """(K,) numbers in `data`, which Python 2 wrote as text."""
        raw = data.encode("latin-1") if isinstance(data, str) else data
        native = np.dtype("=" + self.code)
        return np.frombuffer(raw, np.dtype(self.order + self.code)).astype(native, copy=False)


@dataclass
class Array(Fillable):
    """A numpy array; made empty, filled later. `value` is None where its entries are not plain numbers."""

    budget: Budget
    value: NDArray[np.generic] | None = None

    def fill(self, state: Any) -> None:
        """Takes shape, dtype and bytes; entries that are Python objects are left out."""
        _, shape, dtype, fortran, data = state
        if isinstance(dtype, Dtype):
            self.budget.copy(len(data))
            self.value = np.array(dtype.read(data).reshape(shape, order="F" if fortran else "C"))


def _dtype(budget: Budget, code: object, *rest: object) -> Dtype | Part:
    text = code.text.removeprefix("numpy.") if isinstance(code, Name) else str(code)
    return Dtype(text) if text in DTYPES else Part("numpy.dtype", (text[:20],))


def _scalar(budget: Budget, dtype: Any, data: Any = b"") -> object:
    if not isinstance(dtype, Dtype):
        return Part("numpy.scalar")
    budget.copy(len(data))
    return dtype.read(data).reshape(()).item()


def _empty(budget: Budget, *arguments: object) -> Array:
    return Array(budget)


def _filled(budget: Budget, data: bytes, dtype: Any, shape: tuple[int, ...], order: str = "C") -> Array:
    array = Array(budget)
    array.fill((1, shape, dtype, order == "F", data))
    return array


CALLS: Mapping[str, Callable[..., Any]] = {
    "numpy.dtype": _dtype,
    "numpy.ndarray": _empty,
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _empty for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _filled for core in ("core", "_core")},
}
