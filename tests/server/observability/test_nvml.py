"""GPU metrics against a driver that is played at NVML's own border."""

import asyncio
import logging
import re
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from server.observability.metrics import Metrics
from server.observability.nvml import Gpus

FIRST, SECOND = "GPU-8f3a0c11-0000-0000-0000-000000000001", "GPU-77aa0c11-0000-0000-0000-000000000002"


class NvmlError(Exception):
    pass


class NotSupported(NvmlError):
    pass


class NoPermission(NvmlError):
    pass


class FunctionNotFound(NvmlError):
    pass


class Nvml:
    """The functions of `pynvml` that are used; a GPU's handle is its UUID, and `refuses` maps what to raise."""

    NVMLError = NvmlError
    NVMLError_NotSupported = NotSupported
    NVMLError_NoPermission = NoPermission
    NVMLError_FunctionNotFound = FunctionNotFound

    def __init__(self, *uuids: str) -> None:
        self.uuids = uuids
        self.refuses: dict[tuple[str, str], NvmlError] = {}
        self.joules = 1000.0
        self.busy = 37
        self.read_on: list[str] = []

    def nvmlInit(self) -> None:
        if ("", "init") in self.refuses:
            raise self.refuses["", "init"]

    def nvmlDeviceGetCount(self) -> int:
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return self.uuids[index]

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def answer(self, handle: str, what: str, value: Any) -> Any:
        self.read_on.append(threading.current_thread().name)
        if (handle, what) in self.refuses:
            raise self.refuses[handle, what]
        return value

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        return self.answer(handle, "busy", SimpleNamespace(gpu=self.busy, memory=5))

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return self.answer(handle, "memory", SimpleNamespace(total=80 << 30, free=78 << 30, used=2 << 30))

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return int(self.answer(handle, "power", 312_500))

    def nvmlDeviceGetPowerManagementLimit(self, handle: str) -> int:
        return int(self.answer(handle, "limit", 700_000))

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return int(self.answer(handle, "energy", int(self.joules * 1000)))


def gpus_of(nvml: Nvml, visible: str | None = None) -> Gpus:
    found = Gpus.open(visible, nvml)
    assert found is not None
    return found


def gpu_lines(gpus: Gpus) -> list[str]:
    page = Metrics(gpus).render().decode()
    assert page.endswith("\n")
    return [line for line in page.splitlines() if line.startswith(("nv_gpu", "nv_energy"))]


def test_every_reading_stands_under_tritons_name_and_unit_with_the_uuid_alone() -> None:
    nvml = Nvml(FIRST)
    gpus = gpus_of(nvml)
    nvml.joules += 12.5
    gpus.read()
    label = f'{{gpu_uuid="{FIRST}"}}'
    assert gpu_lines(gpus) == [
        f"nv_gpu_utilization{label} 0.37",
        f"nv_gpu_memory_total_bytes{label} {80 << 30}",
        f"nv_gpu_memory_used_bytes{label} {2 << 30}",
        f"nv_gpu_power_usage{label} 312.5",
        f"nv_gpu_power_limit{label} 700.0",
        f"nv_energy_consumption{label} 12.5",
    ]


def test_energy_is_a_counter_from_the_servers_start_and_the_rest_are_gauges() -> None:
    gpus = gpus_of(Nvml(FIRST))
    page = Metrics(gpus).render().decode()
    assert "# TYPE nv_energy_consumption counter\n" in page
    assert f'nv_energy_consumption{{gpu_uuid="{FIRST}"}} 0.0\n' in page
    assert len(re.findall(r"^# TYPE nv_gpu_\w+ gauge$", page, re.MULTILINE)) == 5


def test_each_gpu_has_its_line_under_one_header() -> None:
    page = Metrics(gpus_of(Nvml(FIRST, SECOND))).render().decode()
    assert page.count("# TYPE nv_gpu_power_usage gauge") == 1
    assert page.count("\nnv_gpu_power_usage{") == 2


@pytest.mark.parametrize("refusal", [NotSupported("-"), NoPermission("-"), FunctionNotFound("-")])
def test_a_value_that_the_gpu_lacks_is_left_out_alone(refusal: NvmlError) -> None:
    nvml = Nvml(FIRST, SECOND)
    nvml.refuses = {(FIRST, "power"): refusal, (FIRST, "energy"): refusal, (SECOND, "energy"): refusal}
    page = Metrics(gpus_of(nvml)).render().decode()
    assert f'nv_gpu_power_usage{{gpu_uuid="{SECOND}"}}' in page
    assert f'nv_gpu_power_usage{{gpu_uuid="{FIRST}"}}' not in page
    assert f'nv_gpu_utilization{{gpu_uuid="{FIRST}"}} 0.37' in page
    assert "nv_energy_consumption" not in page


def test_a_gpu_lost_while_serving_leaves_the_page_with_one_warning_and_may_come_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nvml = Nvml(FIRST, SECOND)
    gpus = gpus_of(nvml)
    nvml.refuses[FIRST, "memory"] = NvmlError("GPU is lost")
    with caplog.at_level(logging.WARNING):
        gpus.read()
        gpus.read()
    assert [record.getMessage() for record in caplog.records] == ["GPU not readable"]
    assert not any(FIRST in line for line in gpu_lines(gpus))
    assert sum(SECOND in line for line in gpu_lines(gpus)) == 6
    nvml.refuses.clear()
    gpus.read()
    assert sum(FIRST in line for line in gpu_lines(gpus)) == 6


def test_without_a_driver_or_a_gpu_there_are_no_lines_at_all() -> None:
    nvml = Nvml()
    assert Gpus.open(None, nvml) is None
    nvml = Nvml(FIRST)
    nvml.refuses["", "init"] = NvmlError("Driver Not Loaded")
    assert Gpus.open(None, nvml) is None
    page = Metrics(None).render().decode()
    assert "nv_gpu" not in page
    assert "nv_energy" not in page


def test_the_real_library_says_why_there_is_no_gpu_in_one_debug_line(caplog: pytest.LogCaptureFixture) -> None:
    pynvml = pytest.importorskip("pynvml")
    with caplog.at_level(logging.DEBUG, "server.observability.nvml"):
        found = Gpus.open()
    if found is not None:
        pytest.skip("this machine has a GPU")
    assert [record.getMessage() for record in caplog.records] == ["no GPU metrics"]
    for name in Nvml.__dict__:
        assert not name.startswith(("nvml", "NVML")) or hasattr(pynvml, name)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [FIRST, SECOND]),
        (SECOND, [SECOND]),
        ("GPU-8f3a, " + SECOND, [FIRST, SECOND]),
        ("1", [FIRST, SECOND]),
    ],
)
def test_only_gpus_named_in_cuda_visible_devices_are_read(visible: str | None, expected: list[str]) -> None:
    (*_, (_, _, _, samples)) = gpus_of(Nvml(FIRST, SECOND), visible).families()
    assert [uuid for uuid, _ in samples] == expected


def test_a_process_that_may_see_no_gpu_shows_none() -> None:
    assert Gpus.open("", Nvml(FIRST)) is None
    assert Gpus.open("GPU-0000", Nvml(FIRST)) is None


async def test_a_running_server_reads_anew_and_never_on_the_loops_thread() -> None:
    nvml = Nvml(FIRST)
    metrics = Metrics(gpus_of(nvml))
    nvml.busy = 91
    nvml.read_on.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(metrics.watch_loop(interval_s=0.01), timeout=0.2)
    assert f'nv_gpu_utilization{{gpu_uuid="{FIRST}"}} 0.91\n' in metrics.render().decode()
    assert threading.current_thread().name not in nvml.read_on
