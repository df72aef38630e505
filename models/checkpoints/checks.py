"""What weights must be before a network is built from them: plain, finite numbers, no more than the file has."""

import torch

from models.architecture import StateDict

MAX_NAME = 500
MAX_INFLATION = 4
QUANTISED = (torch.int8, torch.uint8, torch.int16, torch.uint16)


class Unusable(ValueError):
    """Tensors that no network is built from; one line that names the tensor and what is wrong with it."""


def widened(state: StateDict, file_bytes: int) -> tuple[dict[str, torch.Tensor], str]:
    """(the tensors: floats as float32, whole numbers as int64, contiguous; the types of the floats in the file).

    Raises:
        Unusable: no floats, NaN, quantised, of a type that is not read, or more numbers than the file stores.
    """
    if not state:
        raise Unusable("a state dict without entries")
    for key, tensor in state.items():
        _require_plain(key, tensor)
    if not any(tensor.is_floating_point() for tensor in state.values()):
        raise Unusable("its tensors are whole numbers only: quantised, or no weights")
    if sum(tensor.nbytes for tensor in state.values()) > MAX_INFLATION * file_bytes:
        raise Unusable("its tensors share storage far beyond the file's size; refused")
    dtypes = sorted({_name(tensor.dtype) for tensor in state.values() if tensor.is_floating_point()})
    return {key: _wide(key, tensor) for key, tensor in state.items()}, "+".join(dtypes)


def _require_plain(key: str, tensor: torch.Tensor) -> None:
    if len(key) > MAX_NAME or not key.isprintable():
        raise Unusable(f"a tensor's name, {key[:60]!a}, is longer than {MAX_NAME} or holds control characters")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        raise Unusable(
            f"{key} is a sparse, quantised, complex or empty tensor ({_name(tensor.dtype)}); plain ones are read"
        )
    if tensor.nbytes > max(tensor.untyped_storage().nbytes(), 0):
        raise Unusable(f"{key} claims {tensor.numel()} numbers, more than the file stores for it")
    is_weight = tensor.dtype in QUANTISED or key.rpartition(".")[2] in ("weight", "weight_orig")
    if tensor.ndim > 1 and is_weight and not tensor.is_floating_point():
        raise Unusable(f"{key} is {_name(tensor.dtype)}: quantised weights, which are not read; give the float ones")


def _wide(key: str, tensor: torch.Tensor) -> torch.Tensor:
    try:
        wide = tensor.float() if tensor.is_floating_point() else tensor.long()
    except (RuntimeError, NotImplementedError):
        raise Unusable(
            f"{key} is {_name(tensor.dtype)}, a type that is not read; save the weights in float32"
        ) from None
    if tensor.is_floating_point() and not torch.isfinite(wide).all():
        raise Unusable(f"{key} carries NaN or infinity: the training diverged or the file is damaged")
    return wide.contiguous()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
