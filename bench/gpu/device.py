"""The device that is measured: which it is, and how busy NVML says it is meanwhile."""

import contextlib
import importlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import torch

from bench.machine import core_count

SAMPLE_S = 0.1
_cudnn: Any = torch.backends.cudnn  # its stubs lack what it has


@dataclass(frozen=True)
class Device:
    """`cpu`, or the first GPU that this process sees (`cuda`)."""

    kind: str

    @property
    def torch(self) -> torch.device:
        return torch.device("cuda", 0) if self.kind == "cuda" else torch.device("cpu")

    @property
    def slug(self) -> str:
        """What its results' file is called after, with today's date."""
        name = f"cpu-{core_count()}core-gpu-script" if self.kind == "cpu" else torch.cuda.get_device_name(0)
        plain = re.sub(r"[^a-z0-9]+", "-", name.lower().replace("nvidia", "")).strip("-")
        return f"{plain}-{date.today().isoformat()}"

    def facts(self) -> dict[str, object]:
        """Name, and of a GPU its compute capability, memory, driver and CUDA."""
        if self.kind == "cpu":
            return {"kind": "cpu", "name": f"CPU, {core_count()} cores", "torch": torch.__version__}
        major, minor = torch.cuda.get_device_capability(0)
        return {
            "kind": "cuda",
            "name": torch.cuda.get_device_name(0),
            "compute_capability": f"{major}.{minor}",
            "memory_bytes": torch.cuda.get_device_properties(0).total_memory,
            "driver": _driver(),
            "cuda": torch.version.cuda,
            "cudnn": _cudnn.version(),
            "torch": torch.__version__,
        }

    def set_tf32(self, wanted: bool) -> None:
        """Whether torch's float32 products may be of TensorFloat-32, in everything it runs from now on."""
        if self.kind == "cuda":
            precision = "tf32" if wanted else "ieee"
            torch.backends.cuda.matmul.fp32_precision = precision
            _cudnn.conv.fp32_precision = precision

    def finish(self) -> None:
        """Returns when everything queued on the device has ended."""
        if self.kind == "cuda":
            torch.cuda.synchronize()

    def free(self) -> None:
        """Gives torch's cached memory back, so that the next engine has all of it."""
        if self.kind == "cuda":
            torch.cuda.empty_cache()

    @contextlib.contextmanager
    def watched(self) -> Iterator["Busy"]:
        """Samples NVML's utilization for as long as the block lasts."""
        busy, ended = Busy(), threading.Event()
        nvml: Any
        nvml, handle = _nvml() if self.kind == "cuda" else (None, None)

        def sample() -> None:
            while not ended.wait(SAMPLE_S):
                with contextlib.suppress(nvml.NVMLError):
                    busy.samples.append(nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)

        thread = threading.Thread(target=sample)
        if nvml is None:
            yield busy
            return
        thread.start()
        try:
            yield busy
        finally:
            ended.set()
            thread.join()


class Busy:
    """Samples of one phase, 0..1."""

    def __init__(self) -> None:
        self.samples: list[float] = []

    @property
    def share(self) -> float | None:
        """Their mean; None where there is none."""
        return sum(self.samples) / len(self.samples) if self.samples else None


def busy_refusal(device: Device) -> str:
    """Why the GPU's busy share cannot be measured; "" where it can."""
    if device.kind == "cpu":
        return "no GPU is measured"
    return "" if _nvml()[0] is not None else "NVML cannot be read (nvidia-ml-py is missing or finds no driver)"


def _nvml() -> tuple[Any, Any]:
    """`pynvml` and the handle of the GPU that torch calls the first; (None, None) where NVML cannot be read."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None, None
    try:
        nvml.nvmlInit()
        # by UUID: CUDA_VISIBLE_DEVICES and CUDA's own order may make another one torch's first
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
        nvml.nvmlDeviceGetUtilizationRates(handle)
    except nvml.NVMLError:
        return None, None
    return nvml, handle


def _driver() -> str | None:
    nvml, _ = _nvml()
    return None if nvml is None else str(nvml.nvmlSystemGetDriverVersion())
