"""Whether a GPU may be used on, as the driver says it; the driver is faked at its C interface."""

from typing import Any

import pytest

from server.engines.gpu_state import LOST, lost


class FakeDriver:
    """Has the GPUs 0 and 1, whose next `cuCtxSynchronize` returns `code`. Notes contexts that are kept or current."""

    def __init__(self, code: int = 0, retains: int = 0) -> None:
        self._code = code
        self._retains = retains
        self.held: list[str] = []

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 0 if index < 2 else 101

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        if self._retains == 0:
            context._obj.value = 7000 + device.value
            self.held.append(f"gpu {device.value}")
        return self._retains

    def cuCtxPushCurrent_v2(self, context: Any) -> int:
        self.held.append(f"context {context.value}")
        return 0

    def cuCtxSynchronize(self) -> int:
        assert self.held == ["gpu 1", "context 7001"]
        return self._code

    def cuCtxPopCurrent_v2(self, context: Any) -> int:
        self.held.pop()
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device: Any) -> int:
        self.held.remove(f"gpu {device.value}")
        return 0


@pytest.mark.parametrize(
    ("code", "retains", "said"),
    [
        (0, 0, ""), (700, 0, "CUDA_ERROR_ILLEGAL_ADDRESS"), (214, 0, "CUDA_ERROR_ECC_UNCORRECTABLE"),
        (911, 0, "CUDA_ERROR_EXTERNAL_DEVICE"), (2, 0, ""), (900, 0, ""),
        (0, 719, "CUDA_ERROR_LAUNCH_FAILED"), (0, 2, ""),
    ],
)  # fmt: skip
def test_only_what_cuda_cannot_recover_from_makes_a_gpu_lost(code: int, retains: int, said: str) -> None:
    driver = FakeDriver(code, retains)
    assert lost(1, lambda name: driver) == said
    assert driver.held == []


def test_without_a_driver_or_a_gpu_of_that_number_nothing_is_lost() -> None:
    def absent(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    assert lost(0, absent) == ""
    assert lost(2, lambda name: FakeDriver(700)) == ""


def test_the_errors_are_those_of_cudas_own_header() -> None:
    driver = pytest.importorskip("cuda.bindings.driver")
    for code, name in LOST.items():
        assert getattr(driver.CUresult, f"CUDA_ERROR_{name}").value == code
