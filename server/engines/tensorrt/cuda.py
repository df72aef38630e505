"""The CUDA runtime with every return code checked: GPUs, memory on GPU and host, streams."""

import ctypes
import importlib
import logging
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.engines.base import DeviceId
from server.engines.tensorrt.compatibility import Gpu
from server.errors import StartError

log = logging.getLogger(__name__)


class CudaError(RuntimeError):
    """A call that failed. After some errors (an illegal address, say) every later call of the process fails as well."""

    def __init__(self, call: str, name: str) -> None:
        super().__init__(f"{call} failed: {name}")
        self.name = name


class Cuda:
    """`cuda.bindings.runtime`; what it allocates is freed by the `ExitStack` that is passed in."""

    def __init__(self, binding: Any = None) -> None:
        """Loads the binding if none is given.

        Raises:
            StartError: cuda-bindings is not installed.
        """
        self.binding = _load() if binding is None else binding

    def call(self, name: str, *arguments: Any) -> Any:
        """What the function `name` returns besides its code.

        Raises:
            CudaError: the code is not success.
        """
        code, *results = getattr(self.binding, name)(*arguments)
        if code != self.binding.cudaError_t.cudaSuccess:
            raise CudaError(name, code.name)
        return results[0] if results else None

    def attempt(self, name: str, *arguments: Any) -> None:
        """Calls and logs a failure, for cleaning up."""
        try:
            self.call(name, *arguments)
        except CudaError as error:
            log.warning("%s", error)

    def use(self, gpu: int) -> None:
        """Makes `gpu` the one that this thread's calls use."""
        self.call("cudaSetDevice", gpu)

    def stream(self, held: ExitStack) -> Any:
        """A stream that does not wait for the default one."""
        stream = self.call("cudaStreamCreateWithFlags", self.binding.cudaStreamNonBlocking)
        held.callback(self.attempt, "cudaStreamDestroy", stream)
        return stream

    def device_memory(self, nbytes: int, held: ExitStack) -> int:
        """Address of memory on the GPU."""
        address = self._allocate("cudaMalloc", nbytes)
        held.callback(self.attempt, "cudaFree", address)
        return address

    def pinned_memory(self, nbytes: int, held: ExitStack) -> int:
        """Address of page-locked memory, which the GPU copies without the CPU."""
        address = self._allocate("cudaHostAlloc", nbytes, self.binding.cudaHostAllocDefault)
        held.callback(self.attempt, "cudaFreeHost", address)
        return address

    def _allocate(self, name: str, nbytes: int, *flags: int) -> int:
        try:
            return int(self.call(name, max(1, nbytes), *flags))
        except CudaError as error:
            raise CudaError(f"{name} of {nbytes} bytes", error.name) from error


class Staging:
    """Memory for one tensor on GPU and host, of a fixed size."""

    def __init__(self, cuda: Cuda, nbytes: int, held: ExitStack) -> None:
        self._cuda = cuda
        self.device = cuda.device_memory(nbytes, held)
        self.pinned = cuda.pinned_memory(nbytes, held)
        self._bytes = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(self.pinned))

    def view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The host's memory as an array that shares it.

        Raises:
            ValueError: it is too small for the shape.
        """
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if not 0 <= nbytes <= len(self._bytes):
            raise ValueError(f"{nbytes} bytes of shape {shape} in a buffer of {len(self._bytes)}")
        return self._bytes[:nbytes].view(dtype).reshape(shape)

    def send(self, nbytes: int, stream: Any) -> None:
        """Queues the copy of the first bytes to the GPU."""
        kind = self._cuda.binding.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._cuda.call("cudaMemcpyAsync", self.device, self.pinned, nbytes, kind, stream)

    def fetch(self, nbytes: int, stream: Any) -> None:
        """Queues the copy of the first bytes from the GPU."""
        kind = self._cuda.binding.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._cuda.call("cudaMemcpyAsync", self.pinned, self.device, nbytes, kind, stream)


def find_gpu(device: DeviceId, cuda: Any = None) -> Gpu:
    """The GPU as its driver describes it. `cuda`: in place of `cuda.bindings.runtime`.

    Raises:
        StartError: no driver, no such GPU, or cuda-bindings is not installed.
    """
    runtime = Cuda(cuda)
    try:
        found = runtime.call("cudaGetDeviceCount")
        if device.index >= found:
            raise StartError(f"device {device}: CUDA finds {found} GPU{'s' * (found != 1)}, numbered from 0")
        properties = runtime.call("cudaGetDeviceProperties", device.index)
    except CudaError as error:
        raise StartError(_without_driver(runtime, error)) from error
    name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
    capability = f"{properties.major}.{properties.minor}"
    return Gpu(name.rstrip("\0"), capability, device.index, int(properties.totalGlobalMem))


def _without_driver(cuda: Cuda, error: CudaError) -> str:
    if error.name != "cudaErrorInsufficientDriver":
        return f"TensorRT needs an NVIDIA GPU: {error}"
    # CUDA gives one code for a driver that is missing and one that is too old; only the first has version 0.
    driver, runtime = (int(cuda.call(name)) for name in ("cudaDriverGetVersion", "cudaRuntimeGetVersion"))
    if driver == 0:
        return f"TensorRT needs an NVIDIA GPU: the CUDA driver was not found ({error.name})"
    return f"the CUDA driver is for CUDA {_dotted(driver)}, this runtime needs {_dotted(runtime)} ({error.name})"


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _load() -> Any:
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except (ImportError, OSError) as error:
        raise StartError(
            f"cuda-bindings is not installed ({error}): install 'ganserve[tensorrt-rtx]' or 'ganserve[tensorrt]'"
        ) from error
