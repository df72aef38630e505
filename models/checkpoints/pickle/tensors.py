"""Tensors, arrays and network objects in plain pickles: what the names in them make, none of it by the named code.

Sources: `torch/_utils.py`, `torch/storage.py` and `torch/serialization.py` (the legacy format, in which each storage is
embedded), `numpy._core.multiarray`, and `torch_utils/persistence.py` of NVlabs/stylegan2-ada-pytorch, whose own loader
executes the source text that every network carries. Here it is not even kept.
"""

import io
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.checkpoints.pickle.machine import DAMAGED, Budget, Fillable, Machine, Name, Part, PickleError, Vocabulary

MAX_STEPS = 500_000  # a snapshot of StyleGAN2 at 1024 px, two generators and a discriminator, takes 70,000
MAX_INFLATION = 4  # bytes made out of the file's bytes, as a multiple of its size
LEGACY = (0x1950A86A20F9469CFC6C, 1001)  # torch's magic number and protocol
STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
DTYPES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
CLASSES = ("torch.nn.", "pg_modules.", "timm.")  # of networks that are pickled as plain objects


def load(stream: IO[bytes], size_bytes: int) -> Any:
    """What a plain pickle of `size_bytes` holds: containers, numbers, text, tensors, `Array`s and `Part`s.

    Raises:
        PickleError: damaged, too much, or anything but a trained network's data.
    """
    return Machine(stream, VOCABULARY, Budget(MAX_STEPS, MAX_INFLATION * size_bytes)).run()


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

    def read(self, data: bytes) -> NDArray[np.generic]:
        """(K,) numbers in `data`."""
        return np.frombuffer(data, np.dtype(self.order + self.code))


@dataclass
class Array(Fillable):
    """A numpy array of plain numbers; made empty, filled later."""

    value: NDArray[np.generic]

    def fill(self, state: Any) -> None:
        """Takes shape, dtype and bytes."""
        _, shape, dtype, fortran, data = state
        self.value = dtype.read(data).reshape(shape, order="F" if fortran else "C")


@dataclass(frozen=True)
class Storage:
    """What a torch file says of a storage before its bytes."""

    dtype: torch.dtype
    length: int


def _storage_of(identity: Any) -> Storage:
    kind, name, _, _, length = identity[:5]
    if kind != "storage" or not isinstance(name, Name) or not isinstance(length, int) or length < 0:
        raise PickleError(f"{DAMAGED}: a storage that is none")
    return Storage(STORAGES[name.text], length)


def _load_storage(budget: Budget, data: bytes) -> torch.Tensor:
    """(K,) numbers in a legacy torch file of one storage: magic number, protocol, system, storage, keys, raw bytes."""
    budget.copy(len(data))
    stream = io.BytesIO(data)
    machine = Machine(stream, STORAGE_VOCABULARY, budget)
    magic, protocol, system, found = (machine.run() for _ in range(4))
    if (magic, protocol) != LEGACY or not isinstance(found, Storage) or system.get("little_endian") is not True:
        raise PickleError(f"{DAMAGED}: an embedded tensor that is no torch storage")
    machine.run()  # the key of the one storage
    raw = bytearray(stream.read())
    size_bytes = found.length * found.dtype.itemsize
    if len(raw) != 8 + size_bytes or struct.unpack_from("<q", raw)[0] != found.length:
        raise PickleError(f"{DAMAGED}: a storage of {found.length} numbers in {max(len(raw) - 8, 0)} bytes")
    if not found.length:
        return torch.empty(0, dtype=found.dtype)
    return torch.frombuffer(raw, dtype=found.dtype, offset=8)


def _tensor(
    budget: Budget,
    storage: torch.Tensor,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    requires_grad: bool,
    hooks: object,
    metadata: object = None,
) -> torch.Tensor:
    if not isinstance(storage, torch.Tensor) or any(number < 0 for number in (offset, *shape, *strides)):
        raise PickleError(f"{DAMAGED}: a tensor without its numbers")
    if math.prod(shape) > storage.numel():
        raise PickleError(f"a tensor claims {math.prod(shape)} numbers, more than the file stores for it")
    try:
        return torch.as_strided(storage, shape, strides, offset)
    except RuntimeError:
        raise PickleError(f"{DAMAGED}: a tensor outside its storage") from None


def _parameter(budget: Budget, tensor: torch.Tensor, requires_grad: bool, hooks: object) -> torch.Tensor:
    if not isinstance(tensor, torch.Tensor):
        raise PickleError(f"{DAMAGED}: a parameter without its tensor")
    return tensor


def _network(budget: Budget, record: dict[str, Any]) -> Part:
    """The persistent object that a record describes; its source text is dropped unread."""
    part = Part(str(record["class_name"])[:80])
    part.fill(record["state"])
    return part


def _dtype(budget: Budget, code: str, align: bool = False, copy: bool = False) -> Dtype:
    if code not in DTYPES:
        raise PickleError(f"a numpy dtype {str(code)[:20]!a}, where plain numbers belong; refused")
    return Dtype(code)


def _scalar(budget: Budget, dtype: Dtype, data: bytes) -> object:
    return dtype.read(data).reshape(()).item()


def _empty_array(budget: Budget, kind: Name, shape: object, code: object) -> Array:
    return Array(np.empty(0))


def _array(budget: Budget, data: bytes, dtype: Dtype, shape: tuple[int, ...], order: str) -> Array:
    return Array(dtype.read(data).reshape(shape, order="F" if order == "F" else "C"))


def _set(budget: Budget, values: list[Any]) -> set[Any]:
    if any(not isinstance(value, str | int) for value in values):
        raise PickleError("a set of something other than names and numbers; refused")
    budget.copy(64 * len(values))
    return set(values)


def _refuse(budget: Budget) -> None:
    raise PickleError("calls a class that is only named elsewhere; refused")


CALLS: Mapping[str, Callable[..., Any]] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _network,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.storage._load_from_bytes": _load_storage,
    "collections.OrderedDict": lambda budget: {},
    "dnnlib.util.EasyDict": lambda budget: {},
    "builtins.set": _set,
    "numpy.dtype": _dtype,
    "numpy.ndarray": _refuse,
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _empty_array for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _array for core in ("core", "_core")},
}
VOCABULARY = Vocabulary(CALLS, CLASSES)
STORAGE_VOCABULARY = Vocabulary(dict.fromkeys(STORAGES, _refuse), identified=_storage_of)
