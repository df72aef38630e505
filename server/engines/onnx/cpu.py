"""ONNX Runtime: sessions that fall back to no other provider in silence, and the CPU's engine."""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from artifact.spec import TensorSpec
from server.engines.base import Arrays
from server.errors import StartError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

_KSERVE_OF = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


def cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def has_cuda() -> bool:
    """Whether this ONNX Runtime can use a GPU."""
    return CUDA in ort.get_available_providers()


def choose_device(asked: str, has_tensorrt: bool | None = None) -> str:
    """`cpu` or `cuda:N` for what was asked: auto, cpu, cuda or cuda:N. `auto` is a GPU where ONNX Runtime has it.

    `has_tensorrt`: whether plans can be run, which is reason enough for a GPU that is asked for; None: look.

    Raises:
        StartError: CUDA was asked for, and nothing that is installed can use it.
    """
    if asked == "auto":
        return "cuda:0" if has_cuda() else "cpu"
    if asked.startswith("cuda"):
        if not has_cuda() and not (_finds_tensorrt() if has_tensorrt is None else has_tensorrt):
            raise StartError(
                f"device {asked}: {no_provider(CUDA)}, and TensorRT is not installed; install 'ganserve[cuda]' in "
                "place of 'ganserve[cpu]', or 'ganserve[tensorrt-rtx]' for plans, or pass --device cpu"
            )
        return asked if ":" in asked else "cuda:0"
    return "cpu"


class OrtEngine:
    """A graph in ONNX Runtime on the CPU.

    It holds the graph twice: a session of one thread for each lane to run at once, and one over every thread for a
    request that is alone. Both give the same bytes for the same rows.
    """

    def __init__(self, path: Path, lanes: int, threads: int, batched: bool) -> None:
        """Opens the graph. Blocks for as long as ONNX Runtime optimises it.

        Raises:
            StartError: ONNX Runtime cannot open the file.
        """
        self._shared = open_session(path, [(CPU, {})], max(1, threads // lanes))
        self._whole = open_session(path, [(CPU, {})], threads) if lanes > 1 else self._shared
        self.inputs = specs(self._shared.get_inputs(), batched)
        self.outputs = specs(self._shared.get_outputs(), batched)
        self._output_names = [tensor.name for tensor in self.outputs]

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Takes every shape; what the graph cannot run fails in the run."""

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        """The outputs by name for one batch; see `Engine`."""
        session = self._whole if whole_device else self._shared
        return dict(zip(self._output_names, session.run(self._output_names, dict(arrays)), strict=True))

    def close(self) -> None:
        """Frees both sessions."""
        del self._shared, self._whole


def open_session(
    path: Path, providers: Sequence[tuple[str, Mapping[str, str]]], threads: int, optimised: bool = True
) -> ort.InferenceSession:
    """A session on the first of `providers`; nodes that it does not take run on those after it.

    `optimised`: False for a look at the graph that is not run.

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
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    wanted = providers[0][0]
    if wanted != CPU:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    missing = [name for name, _ in providers if name not in ort.get_available_providers()]
    if missing:
        raise StartError(f"{path}: {no_provider(missing[0])}")
    try:
        # Without enable_fallback=0 a provider that cannot start is replaced by the CPU's, with a line on stdout.
        session = ort.InferenceSession(
            path, options, providers=[(name, dict(given)) for name, given in providers], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions share no public base
        raise StartError(f"{path}: ONNX Runtime cannot open it: {str(error).splitlines()[0]}") from error
    if session.get_providers()[0] != wanted:
        raise StartError(f"{path}: {wanted} was asked for, ONNX Runtime took {session.get_providers()[0]}")
    return session


def _finds_tensorrt() -> bool:
    return any(importlib.util.find_spec(name) for name in ("tensorrt_rtx_bindings", "tensorrt_rtx", "tensorrt"))


def no_provider(name: str) -> str:
    """That this ONNX Runtime has no such provider, and which it has."""
    return f"this onnxruntime {ort.__version__} has {', '.join(ort.get_available_providers())} and no {name}"


def specs(tensors: Sequence[Any], batched: bool) -> tuple[TensorSpec, ...]:
    """A session's inputs or outputs, without the batch axis where `batched`."""
    return tuple(
        TensorSpec(
            tensor.name,
            _KSERVE_OF.get(tensor.type, tensor.type),
            tuple(axis if isinstance(axis, int) else -1 for axis in tensor.shape[1 if batched else 0 :]),
        )
        for tensor in tensors
    )
