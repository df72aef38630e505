"""Memory of a GPU that another process has exported, read and written through the host."""

import ctypes
import importlib
from contextlib import ExitStack
from typing import Any

import numpy as np

from server.engines.tensorrt.cuda import Cuda, CudaError


class IpcMemory:
    """What a handle of `cudaIpcGetMemHandle` stands for. Any thread.

    `nbytes`: of the memory that the other process allocated.
    """

    def __init__(self, handle: bytes, gpu: int) -> None:
        """Opens it.

        Raises:
            StartError: cuda-bindings is not installed.
            ValueError: no GPU of that number, or the handle has another length than CUDA's.
            CudaError: no GPU at all, or the handle stands for nothing.
        """
        self._cuda = Cuda()
        self._gpu = gpu
        binding = self._cuda.binding
        found = self._cuda.call("cudaGetDeviceCount")
        if not 0 <= gpu < found:
            raise ValueError(f"device {gpu}: CUDA finds {found} GPU{'s' * (found != 1)}, numbered from 0")
        if len(handle) != binding.CUDA_IPC_HANDLE_SIZE:
            raise ValueError(f"a handle of {len(handle)} bytes; must be {binding.CUDA_IPC_HANDLE_SIZE}")
        opened = binding.cudaIpcMemHandle_t()
        ctypes.memmove(opened.getPtr(), handle, len(handle))
        with ExitStack() as held:
            self._cuda.use(gpu)
            self._stream = self._cuda.stream(held)
            self._address = int(self._cuda.call("cudaIpcOpenMemHandle", opened, binding.cudaIpcMemLazyEnablePeerAccess))
            held.callback(self._cuda.attempt, "cudaIpcCloseMemHandle", self._address)
            self.nbytes = self._size()
            self._held = held.pop_all()

    def _size(self) -> int:
        """From the address to the end of its allocation."""
        driver: Any = importlib.import_module("cuda.bindings.driver")
        code, base, nbytes = driver.cuMemGetAddressRange(self._address)
        if int(code):
            raise CudaError("cuMemGetAddressRange", code.name)
        return int(base) + int(nbytes) - self._address

    def read(self, at: int, nbytes: int) -> bytes:
        """So many bytes from `at`.

        Raises:
            ValueError: they are not all inside.
            CudaError: the copy failed.
        """
        data = np.empty(nbytes, np.uint8)
        self._copy(data.ctypes.data, self._inside(at, nbytes), nbytes, "cudaMemcpyDeviceToHost")
        return data.tobytes()

    def write(self, at: int, data: bytes | memoryview) -> None:
        """Writes to `at`.

        Raises:
            ValueError: not all is inside.
            CudaError: the copy failed.
        """
        source = np.frombuffer(data, np.uint8)
        self._copy(self._inside(at, len(data)), source.ctypes.data, len(data), "cudaMemcpyHostToDevice")

    def close(self) -> None:
        """Gives it back; nobody may use it any more."""
        self._cuda.attempt("cudaSetDevice", self._gpu)
        self._held.close()

    def _inside(self, at: int, nbytes: int) -> int:
        if not 0 <= at <= at + nbytes <= self.nbytes:
            raise ValueError(f"bytes {at}..{at + nbytes} of {self.nbytes}")
        return self._address + at

    def _copy(self, target: int, source: int, nbytes: int, kind: str) -> None:
        """Returns when it is done: a copy from the host may be under way when `cudaMemcpy` returns."""
        if nbytes:
            self._cuda.use(self._gpu)
            direction = getattr(self._cuda.binding.cudaMemcpyKind, kind)
            self._cuda.call("cudaMemcpyAsync", target, source, nbytes, direction, self._stream)
            self._cuda.call("cudaStreamSynchronize", self._stream)
