"""What config.pbtxt's `optimization { execution_accelerators }` requests."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import CONFIG
from server.errors import NotServing

# Triton's accelerator of the CPU that there is here.
CPU_ACCELERATOR = "openvino"
# Those of GPUs: TensorRT, and what runs a graph on a GPU anyway.
GPU_ACCELERATORS = ("tensorrt", "cuda")
# Triton's names for the precision of its TensorRT accelerator -> ours. INT8 needs a calibration that requests cannot
# provide.
PRECISIONS: Mapping[str, str] = {"FP32": "fp32", "FP16": "fp16"}
# Of its other parameters, those that are used.
_USED = {"tensorrt": ("precision_mode", "max_workspace_size_bytes"), "cuda": ()}


@dataclass(frozen=True)
class Accelerator:
    """What `gpu_execution_accelerator { name: "tensorrt" }` requests; None: the choice is ours."""

    precision: str | None = None
    workspace_bytes: int | None = None


def read_accelerator(config: ModelConfig | None) -> Accelerator | None:
    """What the config requests of TensorRT, None if nothing.

    Of Triton's parameters `precision_mode` and `max_workspace_size_bytes` are used; profiles and caches are ours.

    Raises:
        NotServing: an accelerator or a value that is not supported.
    """
    found: Accelerator | None = None
    entries = () if config is None else config.optimization.execution_accelerators.gpu_execution_accelerator
    for entry in entries:
        if entry.name not in GPU_ACCELERATORS:
            supported = " and ".join(map(repr, GPU_ACCELERATORS))
            raise NotServing(f"{CONFIG}: gpu_execution_accelerator {entry.name!r} is not supported; {supported} are")
        if entry.name != "tensorrt":
            continue
        precision = entry.parameters.get("precision_mode")
        if precision is not None and precision not in PRECISIONS:
            raise NotServing(f"{CONFIG}: precision_mode {precision!r} is not supported; {', '.join(PRECISIONS)} are")
        workspace = entry.parameters.get("max_workspace_size_bytes")
        if workspace is not None and not (workspace.isascii() and workspace.isdecimal()):
            raise NotServing(f"{CONFIG}: max_workspace_size_bytes {workspace!r} is not a number of bytes")
        found = found or Accelerator(PRECISIONS.get(precision or ""), None if workspace is None else int(workspace))
    return found


def check_accelerators(config: ModelConfig) -> None:
    """Checks that the config requests accelerators that there are, whatever the model runs on.

    Raises:
        NotServing: one is not supported.
    """
    read_accelerator(config)
    for entry in config.optimization.execution_accelerators.cpu_execution_accelerator:
        if entry.name != CPU_ACCELERATOR:
            raise NotServing(
                f"{CONFIG}: cpu_execution_accelerator {entry.name!r} is not supported; {CPU_ACCELERATOR!r} is"
            )


def unused_parameters(config: ModelConfig) -> Iterator[str]:
    """The parameters of accelerators that have no effect, and why: one line each."""
    accelerators = config.optimization.execution_accelerators
    for entry in accelerators.gpu_execution_accelerator:
        for key in sorted(set(entry.parameters) - set(_USED.get(entry.name, ()))):
            why = (
                "profiles and caches are the server's" if entry.name == "tensorrt" else "the settings say how CUDA runs"
            )
            yield f"gpu_execution_accelerator: {key}: {why}"
    for entry in accelerators.cpu_execution_accelerator:
        for key in sorted(entry.parameters):
            yield f"cpu_execution_accelerator: {key}: the server chooses how OpenVINO runs"
