"""A serialized TensorRT engine read: brought onto the GPU, and its inputs and outputs described."""

from typing import Any

from artifact.dtypes import KSERVE_OF_TENSORRT
from artifact.spec import TensorSpec
from artifact.tensorrt import TensorRTError, first_error, logger
from server.engines.tensorrt.compatibility import Gpu, diagnosis

# First bytes of a serialized engine of TensorRT for RTX; classic TensorRT's are "ftrt".
_RTX_MAGIC = b"vtrt"


def variant_of(data: bytes) -> str:
    """`rtx` or `classic`, from the first bytes of a serialized engine."""
    return "rtx" if data.startswith(_RTX_MAGIC) else "classic"


def deserialize(library: Any, name: str, data: bytes, gpu: Gpu) -> Any:
    """The engine, on the GPU that this thread uses. `name`: the library's.

    Raises:
        TensorRTError: it cannot be read here; the text has the reason that TensorRT gives.
    """
    runtime = library.Runtime(logger(library))
    first_error()  # drops what was logged on this thread before: it is not about this engine
    engine = runtime.deserialize_cuda_engine(data)
    if engine is not None:
        return engine
    error = first_error() or "TensorRT gave no reason"
    # Only after the failure: an engine that was not built for this GPU may run on it all the same.
    bits = int(runtime.get_engine_validity(data)[1]) if hasattr(runtime, "get_engine_validity") else 0
    cause = f"{diagnosis(library, bits)}; " if bits else ""
    where = f"this GPU ({gpu.name}, {gpu.compute_capability})"
    raise TensorRTError(f"{name} {library.__version__} cannot read it on {where}: {cause}{error}")


def read_tensors(library: Any, engine: Any, batched: bool) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The engine's inputs and outputs.

    Raises:
        TensorRTError: one of them is of a kind that requests cannot carry.
    """
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        is_input = engine.get_tensor_mode(name) == library.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(_spec(library, engine, name, batched))
    return tuple(inputs), tuple(outputs)


def _spec(library: Any, engine: Any, name: str, batched: bool) -> TensorSpec:
    dtype = engine.get_tensor_dtype(name).name
    if dtype not in KSERVE_OF_TENSORRT:
        raise TensorRTError(f"{name} is {dtype}, which requests cannot carry")
    if engine.get_tensor_location(name) != library.TensorLocation.DEVICE:
        raise TensorRTError(f"{name} is a shape, not data on the GPU: not served")
    if engine.get_tensor_format(name) != library.TensorFormat.LINEAR:
        raise TensorRTError(f"{name} is not row-major in memory ({engine.get_tensor_format_desc(name)}): not served")
    shape = tuple(engine.get_tensor_shape(name))
    return TensorSpec(name, KSERVE_OF_TENSORRT[dtype], shape[1:] if batched else shape)
