"""A CUDA runtime without a GPU, at the border of `cuda.bindings.runtime`.

Device memory is host memory behind addresses that are not host addresses. What is queued on a stream happens when the
stream is synchronised and no earlier, so a missing synchronisation shows as old bytes. Misuse (out of bounds, after
free, freed twice, freed while queued, another device) is written to `problems`.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAP = 1 << 20
FREED = 0xDD


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidResourceHandle = 400
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1


OK = cudaError_t.cudaSuccess
Work = Callable[[bool], None]  # called with whether a graph replays it


@dataclass(eq=False)
class Stream:
    handle: int
    queue: list[tuple[Work, bool]] = field(default_factory=list)
    capture: list[Work] | None = None
    broken: bool = False

    def __int__(self) -> int:
        return self.handle

    def put(self, work: Work) -> None:
        if self.capture is not None:
            self.capture.append(work)
        else:
            self.queue.append((work, False))


@dataclass(eq=False)
class Graph:
    works: list[Work]


class FakeCuda:
    """`gpus` of one kind; none and driver 0: no driver."""

    cudaError_t = cudaError_t
    cudaMemcpyKind = cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaStreamNonBlocking = 1
    cudaHostAllocDefault = 0

    def __init__(self, gpus: int = 1, capability: tuple[int, int] = (8, 9), driver: int = 13000) -> None:
        self.gpus = gpus
        self.capability = capability
        self.driver = driver
        self.problems: list[str] = []
        self.calls: list[str] = []
        self.fail: dict[int, cudaError_t] = {}  # number of the call -> its error
        self.refuse: dict[str, cudaError_t] = {}  # name of a call -> its error
        self.poison: cudaError_t | None = None
        self.device = threading.local()
        self.memory: dict[int, tuple[NDArray[np.uint8], bool, int]] = {}  # address -> bytes, pinned, GPU
        self.graveyard: dict[int, NDArray[np.uint8]] = {}
        self.streams: dict[int, Stream] = {}
        self.graphs: set[Graph] = set()
        self.ready: set[Graph] = set()
        self._next = 1 << 44

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if not name.startswith("cuda") or isinstance(found, int | type):
            return found

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            error = self.poison or self.fail.get(len(self.calls)) or self.refuse.get(name)
            if error is None:
                return found(*arguments)
            if name == "cudaStreamEndCapture":  # ends the capture all the same
                arguments[0].capture = None
            return error, None

        return call

    # What tests ask.

    def count(self, name: str) -> int:
        return Counter(self.calls)[name]

    def leaks(self) -> list[str]:
        """What is still held, and pinned memory that was written after it was freed."""
        held = [f"memory {address:#x}" for address in self.memory]
        held += [f"stream {handle}" for handle in self.streams]
        held += ["graph" for _ in (*self.graphs, *self.ready)]
        return held + [
            f"freed {address:#x} written" for address, buffer in self.graveyard.items() if (buffer != FREED).any()
        ]

    # What a kernel does.

    def read(self, address: int, nbytes: int) -> bytes:
        return self._bytes(address, nbytes, False).tobytes()

    def write(self, address: int, data: bytes) -> None:
        self._bytes(address, len(data), False)[:] = np.frombuffer(data, np.uint8)

    def stream_of(self, handle: int) -> Stream:
        return self.streams[handle]

    def _bytes(self, address: int, nbytes: int, pinned: bool) -> NDArray[np.uint8]:
        for start, (buffer, is_pinned, _) in self.memory.items():
            if start <= address < start + len(buffer) and is_pinned == pinned:
                if address + nbytes > start + len(buffer):
                    self.problems.append(f"{nbytes} bytes at {address - start} of {len(buffer)}")
                    return np.zeros(nbytes, np.uint8)
                return buffer[address - start : address - start + nbytes]
        self.problems.append(f"no {'pinned' if pinned else 'device'} memory at {address:#x}")
        return np.zeros(nbytes, np.uint8)

    def _on_device(self) -> int:
        device = getattr(self.device, "index", None)
        if device is None:
            self.problems.append("no device set on this thread")
        return device or 0

    # The binding.

    def cudaDriverGetVersion(self) -> Any:
        return OK, self.driver

    def cudaRuntimeGetVersion(self) -> Any:
        return OK, 13050

    def cudaGetDeviceCount(self) -> Any:
        if self.driver < 13000:
            return cudaError_t.cudaErrorInsufficientDriver, None
        return (OK, self.gpus) if self.gpus else (cudaError_t.cudaErrorNoDevice, None)

    def cudaGetDeviceProperties(self, index: int) -> Any:
        major, minor = self.capability
        return OK, SimpleNamespace(name=b"Fake GPU", major=major, minor=minor, totalGlobalMem=1 << 34)

    def cudaSetDevice(self, index: int) -> Any:
        self.device.index = index
        return (OK,)

    def cudaMalloc(self, size: int) -> Any:
        if any(stream.capture is not None for stream in self.streams.values()):
            return cudaError_t.cudaErrorStreamCaptureUnsupported, None
        self._next += size + GAP
        self.memory[self._next] = (np.full(size, 0xCD, np.uint8), False, self._on_device())
        return OK, self._next

    def cudaHostAlloc(self, size: int, flags: int) -> Any:
        buffer = np.full(size, 0xCD, np.uint8)
        self.memory[buffer.ctypes.data] = (buffer, True, self._on_device())
        return OK, buffer.ctypes.data

    def cudaFree(self, address: int) -> Any:
        return self._free(address, False)

    def cudaFreeHost(self, address: int) -> Any:
        return self._free(address, True)

    def _free(self, address: int, pinned: bool) -> Any:
        if any(stream.queue for stream in self.streams.values()):
            self.problems.append("memory freed while work is queued")
        if address not in self.memory or self.memory[address][1] != pinned:
            self.problems.append(f"{address:#x} freed, which is not held")
            return (cudaError_t.cudaErrorInvalidValue,)
        buffer, _, gpu = self.memory.pop(address)
        if gpu != self._on_device():
            self.problems.append("memory freed on another device")
        buffer[:] = FREED
        self.graveyard[address] = buffer
        return (OK,)

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        if flags != self.cudaStreamNonBlocking:
            self.problems.append("a stream that waits for the default one")
        self._on_device()
        self._next += 1
        self.streams[self._next] = Stream(self._next)
        return OK, self.streams[self._next]

    def cudaStreamDestroy(self, stream: Stream) -> Any:
        if self.streams.pop(stream.handle, None) is None:
            self.problems.append("a stream destroyed twice")
        if stream.queue:
            self.problems.append("a stream destroyed while work is queued")
        return (OK,)

    def cudaStreamSynchronize(self, stream: Stream) -> Any:
        if stream.handle not in self.streams:
            return (cudaError_t.cudaErrorInvalidResourceHandle,)
        if stream.capture is not None:
            stream.broken = True
            return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
        while stream.queue:
            work, replayed = stream.queue.pop(0)
            work(replayed)
        return (OK,)

    def cudaMemcpyAsync(self, target: int, source: int, nbytes: int, kind: IntEnum, stream: Stream) -> Any:
        to_device = kind == cudaMemcpyKind.cudaMemcpyHostToDevice
        self._on_device()

        def copy(replayed: bool) -> None:
            self._bytes(target, nbytes, not to_device)[:] = self._bytes(source, nbytes, to_device)

        self._bytes(target, nbytes, not to_device), self._bytes(source, nbytes, to_device)
        stream.put(copy)
        return (OK,)

    def cudaStreamBeginCapture(self, stream: Stream, mode: IntEnum) -> Any:
        if mode != cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal:
            self.problems.append("a capture that other threads' calls would break")
        stream.capture = []
        stream.broken = False
        return (OK,)

    def cudaStreamEndCapture(self, stream: Stream) -> Any:
        works, stream.capture = stream.capture, None
        if works is None:
            return cudaError_t.cudaErrorInvalidValue, None
        if stream.broken:
            return cudaError_t.cudaErrorStreamCaptureInvalidated, None
        graph = Graph(works)
        self.graphs.add(graph)
        return OK, graph

    def cudaGraphInstantiate(self, graph: Graph, flags: int) -> Any:
        ready = Graph(graph.works)
        self.ready.add(ready)
        return OK, ready

    def cudaGraphUpload(self, ready: Graph, stream: Stream) -> Any:
        return (OK,)

    def cudaGraphLaunch(self, ready: Graph, stream: Stream) -> Any:
        if ready not in self.ready:
            self.problems.append("a graph launched after it was destroyed")
        stream.queue.extend((work, True) for work in ready.works)
        return (OK,)

    def cudaGraphDestroy(self, graph: Graph) -> Any:
        self.graphs.remove(graph)
        return (OK,)

    def cudaGraphExecDestroy(self, ready: Graph) -> Any:
        self.ready.remove(ready)
        return (OK,)
