"""Memory that callers have registered: a range of a segment of system shared memory, or memory of a GPU.

Segments are read and written through their file descriptors, never mapped: a caller who cuts its file short would end
the process with SIGBUS. What a region holds open is closed once nobody, no running request either, has it any more.
"""

import os
import stat
import weakref
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from server.api.infer_answer import Raw
from server.engines.tensorrt.cuda import CudaError
from server.engines.tensorrt.ipc import IpcMemory
from server.errors import InvalidRequest, StartError, Unsupported

# A handle stands for memory that there is none of without a driver, a GPU or the binding.
_WITHOUT_GPU = ("cudaErrorInsufficientDriver", "cudaErrorNoDevice", "cudaErrorStubLibrary")


class Region(ABC):
    """`byte_size` bytes that tensors may be in. Reading and writing: any thread, within the bounds.

    `is_slow`: whether a few bytes take long already, which is work for another thread than the event loop's.
    """

    is_slow: ClassVar[bool]

    def __init__(self, name: str, byte_size: int) -> None:
        if not byte_size:
            raise InvalidRequest(f"shared memory region {name!r}: byte_size must be at least 1")
        self.name, self.byte_size = name, byte_size

    @abstractmethod
    def read(self, at: int, nbytes: int) -> bytes:
        """So many bytes from `at`.

        Raises:
            InvalidRequest: they cannot be read any more.
        """

    @abstractmethod
    def write(self, at: int, data: Raw) -> None:
        """Writes to `at`.

        Raises:
            InvalidRequest: it cannot be written any more.
        """


class SystemRegion(Region):
    """A range of the segment that a caller made by `shm_open(key)`."""

    is_slow = False

    def __init__(self, name: str, folder: Path, key: str, offset: int, byte_size: int) -> None:
        """Opens it. `folder`: of all segments; `key`: a name in it.

        Raises:
            InvalidRequest: no such segment, or it is shorter.
        """
        super().__init__(name, byte_size)
        self.key, self.offset = key, offset
        try:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            self._descriptor = os.open(folder / key.removeprefix("/"), flags)
        except OSError as error:
            raise InvalidRequest(f"unable to open shared memory region {name!r}: {error.strerror}, {key!r}") from None
        weakref.finalize(self, os.close, self._descriptor)
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode) or offset + byte_size > found.st_size:
            raise InvalidRequest(
                f"failed to register shared memory region {name!r}: {key!r} has {found.st_size} bytes, offset {offset} "
                f"and byte_size {byte_size} need {offset + byte_size}"
            )

    def read(self, at: int, nbytes: int) -> bytes:
        """See `Region`."""
        try:
            data = os.pread(self._descriptor, nbytes, self.offset + at)
        except OSError as error:
            raise self._failed(error) from None
        if len(data) < nbytes:
            raise InvalidRequest(f"shared memory region {self.name!r} has become shorter")
        return data

    def write(self, at: int, data: Raw) -> None:
        """See `Region`."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.pwrite(self._descriptor, view, self.offset + at + len(data) - len(view)) :]
        except OSError as error:  # no space is left for a segment with holes
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> InvalidRequest:
        return InvalidRequest(f"shared memory region {self.name!r}: {error.strerror}")


class CudaRegion(Region):
    """Memory of a GPU that a caller exported by `cudaIpcGetMemHandle`. Tensors are copied through the host."""

    is_slow = True

    def __init__(self, name: str, handle: bytes, device: int, byte_size: int) -> None:
        """Opens it, which may take a second: the first one starts CUDA. Any thread.

        Raises:
            InvalidRequest: the handle or the device is none, or the memory is shorter.
            Unsupported: there is no GPU here.
        """
        super().__init__(name, byte_size)
        self.device = device
        try:
            self._memory = IpcMemory(handle, device)
        except StartError as error:
            raise Unsupported(f"CUDA shared memory: {error}; or send raw_input_contents") from None
        except ValueError as error:
            raise InvalidRequest(f"shared memory region {name!r}: {error}") from None
        except CudaError as error:
            if error.name in _WITHOUT_GPU:
                raise Unsupported(f"CUDA shared memory needs an NVIDIA GPU: {error}; send raw_input_contents") from None
            raise InvalidRequest(
                f"unable to open CUDA shared memory region {name!r} on device {device}: {error}"
            ) from None
        weakref.finalize(self, self._memory.close)
        if byte_size > self._memory.nbytes:
            raise InvalidRequest(
                f"failed to register shared memory region {name!r}: the handle's memory has {self._memory.nbytes} "
                f"bytes, byte_size {byte_size} is more"
            )

    def read(self, at: int, nbytes: int) -> bytes:
        """See `Region`."""
        try:
            return self._memory.read(at, nbytes)
        except CudaError as error:
            raise self._failed(error) from None

    def write(self, at: int, data: Raw) -> None:
        """See `Region`."""
        try:
            self._memory.write(at, data)
        except CudaError as error:
            raise self._failed(error) from None

    def _failed(self, error: CudaError) -> InvalidRequest:
        return InvalidRequest(f"CUDA shared memory region {self.name!r}: {error}")
