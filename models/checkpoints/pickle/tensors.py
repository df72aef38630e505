"""Tensors in pickles: what the names that torch writes make here, none of it by the named code.

Sources: `torch/_utils.py`, `torch/storage.py`, `torch/serialization.py`, and `torch_utils/persistence.py` of
NVlabs/stylegan2-ada-pytorch, whose own loader executes the source text that every network carries. Here it is not even
kept.
"""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import torch

from models.checkpoints.pickle import arrays
from models.checkpoints.pickle.machine import DAMAGED, Budget, Machine, Name, Part, PickleError, Vocabulary, is_small
from models.checkpoints.pickle.storages import read_legacy

MAX_STEPS = 2_000_000  # seconds; a snapshot of StyleGAN2 at 1024 px takes 70,000, a list of losses one for each
MAX_DIMS = 8
MAX_INFLATION = 4  # bytes made out of the file's bytes, as a multiple of its size


@dataclass(frozen=True)
class Unreadable:
    """A tensor that is none of plain numbers; `what` it is instead."""

    what: str


def load(stream: IO[bytes], size_bytes: int, identified: Callable[[Any], Any] | None = None) -> Any:
    """The next object of a stream of `size_bytes`: containers, numbers, text, tensors, arrays, `Part`s of the rest.

    `identified`: what a persistent id stands for, in torch's files a storage.

    Raises:
        PickleError: damaged, or too much.
    """
    return Machine(stream, Vocabulary(CALLS, identified), Budget(MAX_STEPS, MAX_INFLATION * size_bytes)).run()


def _load_storage(budget: Budget, data: bytes) -> object:
    """(K,) numbers in a legacy torch file of one storage."""
    budget.copy(len(data))
    return read_legacy(io.BytesIO(data), len(data), lambda stream, identified: _next(stream, budget, identified))


def _next(stream: IO[bytes], budget: Budget, identified: Callable[[Any], Any] | None) -> Any:
    return Machine(stream, Vocabulary(CALLS, identified), budget).run()


def _tensor(
    budget: Budget, storage: object, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: object
) -> object:
    if isinstance(storage, Part | Unreadable):
        return Unreadable(getattr(storage, "what", "of a type that is not read"))
    if len(shape) > MAX_DIMS:
        raise PickleError(f"a tensor of {len(shape)} dimensions, {MAX_DIMS} at most")
    if not isinstance(storage, torch.Tensor) or any(number < 0 for number in (offset, *shape, *strides)):
        raise PickleError(f"{DAMAGED}: a tensor without its numbers")
    if math.prod(shape) > storage.numel():
        raise PickleError(f"a tensor claims {math.prod(shape)} numbers, more than the file stores for it")
    try:
        return torch.as_strided(storage, shape, strides, offset)
    except RuntimeError:
        raise PickleError(f"{DAMAGED}: a tensor outside its storage") from None


def _tensor_of_type(
    budget: Budget, storage: object, offset: int, shape: tuple[int, ...], strides: tuple[int, ...],
    requires_grad: bool, hooks: object, dtype: object, *rest: object,
) -> object:  # fmt: skip
    named = getattr(torch, dtype.text.removeprefix("torch."), None) if isinstance(dtype, Name) else None
    if not isinstance(named, torch.dtype) or not isinstance(storage, torch.Tensor):
        return Unreadable(f"{dtype.text if isinstance(dtype, Name) else 'of a type'} that is not read")
    return _tensor(budget, storage.view(named), offset, shape, strides)


def _first(budget: Budget, data: object, *rest: object) -> object:
    return data


def _typed(budget: Budget, rebuild: Name, kind: object, arguments: tuple[Any, ...], *rest: object) -> object:
    """A tensor of a derived class, or with attributes: the tensor in it."""
    if not isinstance(rebuild, Name) or not isinstance(arguments, tuple) or rebuild.text not in CALLS:
        return Unreadable("a tensor of a class of its own")
    return CALLS[rebuild.text](budget, *arguments) if rebuild.text != TYPED else Unreadable("a tensor in a tensor")


def _network(budget: Budget, record: dict[str, Any]) -> Part:
    """The persistent object that a record describes; its source text is dropped unread."""
    part = Part(str(record["class_name"])[:80])
    part.fill(record["state"])
    return part


def _dict(budget: Budget, pairs: object = ()) -> dict[Any, Any]:
    """An empty dict, or as Python 2 wrote it: one of a list of pairs."""
    made: dict[Any, Any] = {}
    for pair in pairs if isinstance(pairs, list) else ():
        if len(pair) == 2 and (isinstance(pair[0], str) or is_small(pair[0])):
            made[pair[0]] = pair[1]
    budget.copy(64 * len(made))
    return made


def _set(budget: Budget, values: Any = ()) -> set[Any]:
    budget.copy(64 * len(values))
    return {value for value in values if isinstance(value, str | float) or is_small(value)}


def _list(budget: Budget, values: Any = (), *rest: object) -> list[Any]:
    budget.copy(8 * len(values))
    return list(values)


def _encoded(budget: Budget, text: str, encoding: str = "latin1") -> bytes:
    """Bytes, as pickle's protocols before 3 write them."""
    budget.copy(len(text))
    return text.encode("latin-1")


def _unreadable(what: str) -> Callable[..., Unreadable]:
    return lambda budget, *arguments: Unreadable(what)


TYPED = "torch._tensor._rebuild_from_type_v2"
CALLS: Mapping[str, Callable[..., Any]] = {
    **arrays.CALLS,
    "torch_utils.persistence._reconstruct_persistent_obj": _network,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch.nn.parameter.Buffer": _first,
    "torch.autograd.variable.Variable": _first,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_type,
    TYPED: _typed,
    "torch._utils._rebuild_qtensor": _unreadable("a quantised tensor"),
    "torch._utils._rebuild_sparse_tensor": _unreadable("a sparse tensor"),
    "torch._utils._rebuild_sparse_csr_tensor": _unreadable("a sparse tensor"),
    "torch._utils._rebuild_meta_tensor_no_storage": _unreadable("an empty tensor"),
    "torch._utils._rebuild_nested_tensor": _unreadable("a nested tensor"),
    "torch._utils._rebuild_wrapper_subclass": _unreadable("a tensor of a class of its own, perhaps quantised"),
    "torch.storage._load_from_bytes": _load_storage,
    "torch.jit._pickle.restore_type_tag": _first,
    **{f"torch.jit._pickle.build_{kind}list": _first for kind in ("int", "tensor", "double", "bool")},
    "collections.OrderedDict": _dict,
    "dnnlib.util.EasyDict": _dict,
    "collections.deque": _list,
    **{f"{builtins}.set": _set for builtins in ("builtins", "__builtin__")},
    **{f"{builtins}.list": _list for builtins in ("builtins", "__builtin__")},
    "_codecs.encode": _encoded,
}
