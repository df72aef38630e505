"""The facts without which a timing means nothing."""

import os
import platform
import time
from importlib import metadata
from pathlib import Path

DISTRIBUTIONS = (
    "ganserve", "onnxruntime", "onnxruntime-gpu", "openvino", "grpcio", "pygrpc-native", "numpy", "protobuf", "uvloop",
    "torch", "onnx", "tensorrt", "tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings", "cuda-bindings", "nvidia-ml-py",
    "nvidia-cudnn-cu13",
)  # fmt: skip


def core_count() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def facts() -> dict[str, object]:
    """Processor, cores, load average when asked, the day, and the versions that matter."""
    versions = {name: found for name in DISTRIBUTIONS if (found := _version(name)) is not None}
    return {
        "processor": _processor(),
        "cores": core_count(),
        "load_average_1min": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }
