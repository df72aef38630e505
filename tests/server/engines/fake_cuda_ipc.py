"""Memory that another process exports, for the fake CUDA runtime and in place of `cuda.bindings.driver` too."""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.server.engines.fake_cuda import OK, FakeCuda, cudaError_t


class Handle:
    """A `cudaIpcMemHandle_t`."""

    def __init__(self) -> None:
        self.bytes = ctypes.create_string_buffer(FakeIpcCuda.CUDA_IPC_HANDLE_SIZE)

    def getPtr(self) -> int:
        return ctypes.addressof(self.bytes)


class FakeIpcCuda(FakeCuda):
    """`exported`: what another process has allocated, by handle. Copies go to pageable memory of the host, too."""

    CUDA_IPC_HANDLE_SIZE = 64
    cudaIpcMemLazyEnablePeerAccess = 1
    cudaIpcMemHandle_t = Handle

    def __init__(self, gpus: int = 1, driver: int = 13000) -> None:
        super().__init__(gpus, driver=driver)
        self.exported: dict[bytes, NDArray[np.uint8]] = {}

    def export(self, data: bytes) -> bytes:
        """A handle of new memory with that content."""
        handle = f"handle {len(self.exported)}".encode().ljust(self.CUDA_IPC_HANDLE_SIZE, b"\0")
        self.exported[handle] = np.frombuffer(data, np.uint8).copy()
        return handle

    def cudaIpcOpenMemHandle(self, handle: Handle, flags: int) -> Any:
        buffer = self.exported.get(handle.bytes.raw)
        if buffer is None:
            return cudaError_t.cudaErrorInvalidValue, None
        _, address = self.cudaMalloc(0)
        self.memory[address] = (buffer, False, self._on_device())
        return OK, address

    def cudaIpcCloseMemHandle(self, address: int) -> Any:
        if any(stream.queue for stream in self.streams.values()):
            self.problems.append("memory closed while work is queued")
        if self.memory.pop(address, None) is None:
            self.problems.append("memory closed twice")
        return (OK,)

    def cuMemGetAddressRange(self, address: int) -> Any:
        return OK, address, len(self.memory[address][0])

    def _bytes(self, address: int, nbytes: int, pinned: bool) -> NDArray[np.uint8]:
        if pinned:
            return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))
        return super()._bytes(address, nbytes, pinned)
