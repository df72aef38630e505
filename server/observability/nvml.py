"""The GPUs of the machine as NVML (`nvidia-ml-py`) sees them. Without the library, a driver or a GPU there are none."""

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger(__name__)


def _busy(nvml: Any, gpu: Any) -> float:
    return float(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu) / 100


def _memory_total(nvml: Any, gpu: Any) -> int:
    return int(nvml.nvmlDeviceGetMemoryInfo(gpu).total)


def _memory_used(nvml: Any, gpu: Any) -> int:
    return int(nvml.nvmlDeviceGetMemoryInfo(gpu).used)


def _power(nvml: Any, gpu: Any) -> float:
    return float(nvml.nvmlDeviceGetPowerUsage(gpu)) / 1e3


def _power_limit(nvml: Any, gpu: Any) -> float:
    return float(nvml.nvmlDeviceGetPowerManagementLimit(gpu)) / 1e3


def _energy(nvml: Any, gpu: Any) -> float:
    """Joules since the driver was loaded."""
    return float(nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)) / 1e3


# name, type, help, how it is read; Triton's names, types and units
_READINGS: tuple[tuple[str, str, str, Callable[[Any, Any], float]], ...] = (
    ("nv_gpu_utilization", "gauge", "Share of the GPU's time in use, 0 to 1", _busy),
    ("nv_gpu_memory_total_bytes", "gauge", "Memory of the GPU", _memory_total),
    ("nv_gpu_memory_used_bytes", "gauge", "Memory in use", _memory_used),
    ("nv_gpu_power_usage", "gauge", "Power draw in watts", _power),
    ("nv_gpu_power_limit", "gauge", "Power limit in watts", _power_limit),
    ("nv_energy_consumption", "counter", "Joules since the server started", _energy),
)
_ENERGY = "nv_energy_consumption"


@dataclass(slots=True)
class _Gpu:
    uuid: str
    handle: Any
    energy_before: float | None = None  # joules it had used when it was first read
    lost: bool = False
    values: Mapping[str, float] = field(default_factory=dict)


class Gpus:
    """The last reading of each GPU. `read` calls the driver and is for a thread; the rest returns what it read."""

    def __init__(self, nvml: Any, gpus: list[_Gpu]) -> None:
        self._nvml = nvml
        self._gpus = gpus
        # A GPU, driver or permission may lack a single value.
        names = ("NVMLError_NotSupported", "NVMLError_NoPermission", "NVMLError_FunctionNotFound")
        self._unsupported: tuple[type[Exception], ...] = tuple(getattr(nvml, name) for name in names)

    @staticmethod
    def open(visible: str | None = None, nvml: Any = None) -> "Gpus | None":
        """The GPUs, read once; None if none is visible.

        Args:
            visible: the value of CUDA_VISIBLE_DEVICES, None if it is not set. A list of UUIDs ("GPU-8f3a...", or a
                unique beginning) selects those GPUs; a list of indices selects every GPU, since CUDA may number them
                in another order than NVML.
            nvml: the module `pynvml`; imported if not given.
        """
        try:
            nvml = nvml or importlib.import_module("pynvml")
        except ImportError:
            log.debug("no GPU metrics", extra={"fields": {"reason": "nvidia-ml-py is not installed"}})
            return None
        try:
            nvml.nvmlInit()
            gpus = [gpu for gpu in _listed(nvml) if _is_visible(gpu.uuid, visible)]
        except nvml.NVMLError as error:
            log.debug("no GPU metrics", extra={"fields": {"reason": str(error)}})
            return None
        if not gpus:
            log.debug("no GPU metrics", extra={"fields": {"reason": "NVML sees no GPU of this process"}})
            return None
        found = Gpus(nvml, gpus)
        found.read()
        return found

    def read(self) -> None:
        """Reads every value from the driver; some milliseconds for each GPU. NVML's errors are logged, not raised."""
        for gpu in self._gpus:
            try:
                gpu.values = self._values(gpu)
            except self._nvml.NVMLError as error:
                gpu.values = {}
                if not gpu.lost:
                    log.warning("GPU not readable", extra={"fields": {"gpu_uuid": gpu.uuid, "reason": str(error)}})
                gpu.lost = True
            else:
                gpu.lost = False

    def _values(self, gpu: _Gpu) -> dict[str, float]:
        values: dict[str, float] = {}
        for name, _, _, read in _READINGS:
            try:
                values[name] = read(self._nvml, gpu.handle)
            except self._unsupported:
                continue
        if _ENERGY in values:
            if gpu.energy_before is None:
                gpu.energy_before = values[_ENERGY]
            values[_ENERGY] = round(values[_ENERGY] - gpu.energy_before, 3)
        return values

    def families(self) -> Iterator[tuple[str, str, str, list[tuple[str, float]]]]:
        """(type, name, help, [(UUID, value)]) of what was last read; nothing of a name that no GPU has."""
        readings = [(gpu.uuid, gpu.values) for gpu in self._gpus]
        for name, kind, text, _ in _READINGS:
            samples = [(uuid, values[name]) for uuid, values in readings if name in values]
            if samples:
                yield kind, name, text, samples


def _listed(nvml: Any) -> Iterator[_Gpu]:
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = nvml.nvmlDeviceGetUUID(handle)
        yield _Gpu(uuid.decode() if isinstance(uuid, bytes) else uuid, handle)


def _is_visible(uuid: str, visible: str | None) -> bool:
    if visible is None:
        return True
    entries = [entry.strip() for entry in visible.split(",") if entry.strip()]
    if all(entry.startswith("GPU-") for entry in entries):
        return any(uuid.startswith(entry) for entry in entries)  # an empty list: no GPU, as in CUDA
    return True
