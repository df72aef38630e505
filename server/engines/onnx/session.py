"""ONNX Runtime's sessions: opened on the provider that was requested or not at all, and what can be read from them."""

import contextlib
import ctypes
import functools
import io
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from artifact.dtypes import BF16, KSERVE_OF_ONNX
from artifact.spec import TensorSpec
from server.engines.base import Arrays
from server.engines.onnx.external_data import linked_data
from server.engines.onnx.tuning import UNTUNED, Tuning
from server.errors import InferenceFailed, StartError

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"

Provider: TypeAlias = tuple[str, Mapping[str, str]]
"""An execution provider's name and options."""

# TensorProto.BFLOAT16
_ONNX_BFLOAT16 = 16

log = logging.getLogger(__name__)


def open_session(
    path: Path, providers: Sequence[Provider], threads: int, optimised: bool = True, tuning: Tuning = UNTUNED
) -> ort.InferenceSession:
    """A session on the first of `providers`; nodes that it does not support run on those after it.

    Args:
        optimised: False to look at a graph that is not run.
        tuning: on the CPU.

    Raises:
        StartError: ONNX Runtime cannot open the file, or does not run it on the first provider.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # How long a thread without work spins before it sleeps: across the gaps of one run, hardly beyond its end, where it
    # would keep the core from the threads that answer (one caller's p95: 2.3-2.7 ms at 300, 4.1-4.2 ms at 1500).
    options.add_session_config_entry("session.intra_op.spin_duration_us", "500")
    tuning.apply(options)
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    wanted = providers[0][0]
    if wanted != CPU_PROVIDER:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    for name, _ in providers:
        require_provider(name, str(path))
    if wanted != CPU_PROVIDER:
        load_cuda_libraries()
    try:
        # Without enable_fallback=0 a provider that cannot start is replaced by the CPU's, with a line on stdout.
        with linked_data(path, options):
            session = ort.InferenceSession(
                path, options, providers=[(name, dict(given)) for name, given in providers], enable_fallback=0
            )
    except Exception as error:  # ONNX Runtime's exceptions share no public base
        raise StartError(f"{path}: ONNX Runtime cannot open it: {str(error).splitlines()[0]}") from error
    if session.get_providers()[0] != wanted:
        raise StartError(f"{path}: ONNX Runtime opened it on {session.get_providers()[0]} instead of {wanted}")
    return session


@functools.cache
def load_cuda_libraries() -> None:
    """Loads CUDA's and cuDNN's libraries from NVIDIA's Python packages, where no linker looks for them."""
    if hasattr(ort, "preload_dlls"):  # from ONNX Runtime 1.21
        said = io.StringIO()
        with contextlib.redirect_stdout(said):  # it prints what it does not find; the system's libraries may serve then
            ort.preload_dlls(directory="")  # not in the folder of a torch that is installed beside it
        if said.getvalue():
            log.info("CUDA libraries", extra={"fields": {"onnxruntime": " ".join(said.getvalue().split())}})


def run_session(
    session: ort.InferenceSession,
    outputs: Sequence[TensorSpec],
    arrays: Arrays,
    options: ort.RunOptions | None = None,
    bfloat16: Collection[str] = (),
) -> dict[str, NDArray[Any]]:
    """The outputs of one run by name. `bfloat16`: those of the inputs and outputs that are.

    Raises:
        InferenceFailed: an output has bytes that are no text, which ONNX Runtime's Python interface cannot return.
    """
    names = [tensor.name for tensor in outputs]
    try:
        if not bfloat16:
            return dict(zip(names, session.run(names, dict(arrays), options), strict=True))
        values = {name: _value(array, name in bfloat16) for name, array in arrays.items()}
        found = zip(names, session.run_with_ort_values(names, values, options), strict=True)
        return {name: _bits(value) if name in bfloat16 else value.numpy() for name, value in found}
    except UnicodeDecodeError as error:
        raise InferenceFailed(f"the graph returned a string that is not UTF-8 text: {error}") from error


def bfloat16_names(tensors: Iterable[TensorSpec]) -> frozenset[str]:
    """Those of the tensors that are bfloat16, for `run_session`."""
    return frozenset(tensor.name for tensor in tensors if tensor.dtype == BF16)


def _value(array: NDArray[Any], is_bfloat16: bool) -> ort.OrtValue:
    if is_bfloat16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), _ONNX_BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(array)


def _bits(value: ort.OrtValue) -> NDArray[np.uint16]:
    """A bfloat16 value's bits, copied: ONNX Runtime makes no array of them, so they are read where they are. On a GPU
    outputs that are not bound come back in memory of the CPU."""
    array = np.empty(value.shape(), np.uint16)
    ctypes.memmove(array.ctypes.data, value.data_ptr(), array.nbytes)
    return array


def has_cuda() -> bool:
    """Whether this ONNX Runtime can use a GPU."""
    return CUDA_PROVIDER in ort.get_available_providers()


def no_provider(name: str) -> str:
    """That this ONNX Runtime does not have the provider, and which it has."""
    return f"this onnxruntime {ort.__version__} has {', '.join(ort.get_available_providers())} and no {name}"


def require_provider(name: str, needed_by: str) -> None:
    """Checks that this ONNX Runtime has the provider.

    Raises:
        StartError: it does not; the text begins with `needed_by`.
    """
    if name not in ort.get_available_providers():
        raise StartError(f"{needed_by}: {no_provider(name)}")


def specs(tensors: Sequence[Any], batched: bool) -> tuple[TensorSpec, ...]:
    """A session's inputs or outputs, without the batch axis if `batched`.

    Raises:
        StartError: one is of a type that requests cannot carry.
    """
    for tensor in tensors:
        if tensor.type not in KSERVE_OF_ONNX:
            raise StartError(f"{tensor.name!r} is {tensor.type}, which requests cannot carry; export another type")
    return tuple(
        TensorSpec(
            tensor.name,
            KSERVE_OF_ONNX[tensor.type],
            tuple(axis if isinstance(axis, int) else -1 for axis in tensor.shape[1 if batched else 0 :]),
        )
        for tensor in tensors
    )


def read_inputs(path: Path, batched: bool) -> tuple[TensorSpec, ...]:
    """A graph's inputs, from the file alone: nothing is optimised and no GPU is touched.

    Raises:
        StartError: ONNX Runtime cannot read it.
    """
    return specs(open_session(path, [(CPU_PROVIDER, {})], 1, optimised=False).get_inputs(), batched)


def nodes_elsewhere(session: ort.InferenceSession, wanted: str) -> str:
    """Which kinds of nodes run on another provider than `wanted`, "" if none do or if it is unknown.

    A few on the CPU are normal: those that compute shapes. That is why session.disable_cpu_ep_fallback, which accepts
    none, is not set.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):  # before ONNX Runtime 1.24
        return ""
    try:
        parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name != wanted]
    except Exception as error:  # its exceptions have no public base; this is only for the log
        log.debug("nodes unknown", exc_info=error)
        return ""
    kinds = Counter(f"{node.op_type} ({part.ep_name})" for part in parts for node in part.get_nodes())
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
