"""TensorRT without a GPU, at the border of its Python module: an "engine" is a numpy function over `FakeCuda`'s memory.

What TensorRT calls undefined or refuses is a problem or a refusal here: a run without shapes, addresses or memory, a
capture before the first run, a graph replayed after its context was given other shapes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.server.engines.fake_cuda import FakeCuda

Arrays = Mapping[str, NDArray[Any]]
Shape = tuple[int, ...]


class DataType(Enum):
    FLOAT = "float32"
    HALF = "float16"
    BF16 = "bfloat16"
    UINT8 = "uint8"
    INT64 = "int64"
    BOOL = "bool"


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3


Mode = Enum("Mode", "INPUT OUTPUT")
Place = Enum("Place", "DEVICE HOST")
Format = Enum("Format", "LINEAR CHW32")
Allocation = Enum("Allocation", "STATIC USER_MANAGED")
Specialization = Enum("Specialization", "LAZY EAGER")


class Validity(IntEnum):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2
    MALFORMED_ENGINE = 32


class ILogger:
    Severity = Severity

    def log(self, level: IntEnum, text: str) -> None:
        raise NotImplementedError


@dataclass
class Network:
    """`inputs`, `outputs`: name -> (type, shape with -1 for what is free). `profiles`: name -> (least, best, most)."""

    inputs: Mapping[str, tuple[DataType, Shape]]
    outputs: Mapping[str, tuple[DataType, Shape]]
    profiles: list[Mapping[str, tuple[Shape, Shape, Shape]]]
    function: Callable[[Arrays], Arrays]
    capturable: bool = True
    memory: int = 1000
    format: Format = Format.LINEAR
    place: Place = Place.DEVICE
    contexts: int = 0
    most_contexts: int = 1000
    refuse_runs: int = 0
    data_dependent: bool = False


@dataclass
class Cache:
    compiled: list[str] = field(default_factory=list)

    def deserialize(self, blob: bytes) -> bool:
        if not blob.startswith(b"cache "):
            return False
        self.compiled = blob.decode().split()[1:]
        return True

    def serialize(self) -> bytes:
        return " ".join(["cache", *self.compiled]).encode()


class Config:
    def __init__(self) -> None:
        self.dynamic_shapes_kernel_specialization_strategy = Specialization.LAZY
        self.strategy = Allocation.STATIC
        self.cache: Cache | None = None

    def set_execution_context_allocation_strategy(self, strategy: Allocation) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> Cache:
        return Cache()

    def set_runtime_cache(self, cache: Cache) -> bool:
        self.cache = cache
        return True


class Context:
    def __init__(self, library: "FakeTensorRT", network: Network, config: Config | Allocation) -> None:
        self.library = library
        self.network = network
        self.config = config
        self.profile: int | None = None
        self.memory = (0, 0)
        self.shapes: dict[str, Shape] = {}
        self.addresses: dict[str, int] = {}
        self.settled = False  # a plain run at these shapes has been done
        self.changes = 0

    def set_device_memory(self, address: int, nbytes: int) -> None:
        self.memory = (address, nbytes)

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.library.cuda.stream_of(stream).put(lambda replayed: None)
        self.profile = profile
        return True

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        assert self.profile is not None
        least, _, most = self.network.profiles[self.profile][name]
        if any(not low <= size <= high for low, size, high in zip(least, shape, most, strict=True)):
            return self.library.refuse(f"{name} is outside the profile")
        if self.shapes.get(name) != shape:
            self.changes += 1
            self.settled = False
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def _zeros(self) -> dict[str, NDArray[Any]]:
        return {name: np.zeros(self.shapes[name], kind.value) for name, (kind, _) in self.network.inputs.items()}

    def get_tensor_shape(self, name: str) -> Shape:
        if name in self.network.inputs:
            return self.shapes[name]
        if self.network.data_dependent:
            return (-1,)
        return self.network.function(self._zeros())[name].shape

    def get_max_output_size(self, name: str) -> int:
        return self.network.function(self._zeros())[name].nbytes

    def execute_async_v3(self, handle: int) -> bool:
        stream = self.library.cuda.stream_of(handle)
        if self.network.refuse_runs:
            self.network.refuse_runs -= 1
            return self.library.refuse("no run today")
        if self.memory[1] < self.network.memory:
            return self.library.refuse("no memory to work in")
        if stream.capture is not None and not (self.network.capturable and self.settled):
            stream.broken = True
            return self.library.refuse("cannot be captured")
        if stream.capture is None and not self.settled:
            self.settled = True
            if isinstance(self.config, Config) and self.config.cache is not None:
                self.config.cache.compiled.append(f"{self.profile}:{self.shapes}".replace(" ", ""))
        shapes, addresses, changes = dict(self.shapes), dict(self.addresses), self.changes

        def kernel(replayed: bool) -> None:
            if replayed and self.changes != changes:
                self.library.cuda.problems.append("a graph replayed after its context was given other shapes")
            self._compute(shapes, addresses)

        stream.put(kernel)
        return True

    def _compute(self, shapes: dict[str, Shape], addresses: dict[str, int]) -> None:
        cuda = self.library.cuda
        cuda.write(self.memory[0], b"\xee" * self.network.memory)
        arrays = {}
        for name, (kind, _) in self.network.inputs.items():
            nbytes = int(np.prod(shapes[name])) * np.dtype(kind.value).itemsize
            arrays[name] = np.frombuffer(cuda.read(addresses[name], nbytes), kind.value).reshape(shapes[name])
        for name, array in self.network.function(arrays).items():
            cuda.write(addresses[name], np.ascontiguousarray(array).tobytes())


class CapturableContext(Context):
    """As TensorRT for RTX has it."""

    def is_stream_capturable(self, stream: int) -> bool:
        return self.network.capturable


class Engine:
    def __init__(self, library: "FakeTensorRT", network: Network) -> None:
        self.library = library
        self.network = network
        self.tensors = {**network.inputs, **network.outputs}
        self.num_io_tensors = len(self.tensors)
        self.num_optimization_profiles = len(network.profiles)
        self.device_memory_size_v2 = network.memory

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name in self.network.inputs else Mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.tensors[name][0]

    def get_tensor_shape(self, name: str) -> Shape:
        return self.tensors[name][1]

    def get_tensor_location(self, name: str) -> Place:
        return self.network.place

    def get_tensor_format(self, name: str) -> Format:
        return self.network.format

    def get_tensor_format_desc(self, name: str) -> str:
        return f"format {self.network.format.name}"

    def get_tensor_profile_shape(self, name: str, profile: int) -> tuple[Shape, Shape, Shape]:
        return self.network.profiles[profile][name]

    def create_runtime_config(self) -> Config:
        return Config()

    def create_execution_context(self, config: Config | Allocation) -> Context | None:
        if self.network.contexts == self.network.most_contexts:
            self.library.refuse("one context too many")
            return None
        self.network.contexts += 1
        made = CapturableContext if self.library.rtx else Context
        context = made(self.library, self.network, config)
        self.library.contexts.append(context)
        return context


class Runtime:
    def __init__(self, library: "FakeTensorRT") -> None:
        self.library = library

    def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
        network = self.library.plans.get(data)
        if network is None:
            self.library.refuse("Serialization assertion\n  failed")
            self.library.refuse("a second line")
            return None
        return Engine(self.library, network)


class CheckingRuntime(Runtime):
    """As TensorRT for RTX has it."""

    def get_engine_validity(self, data: bytes) -> tuple[int, int]:
        return 2, self.library.diagnosis


class FakeTensorRT:
    """A library that can read the plans it is given; `rtx`: with what only TensorRT for RTX has."""

    ILogger = ILogger
    TensorIOMode = Mode
    TensorLocation = Place
    TensorFormat = Format
    ExecutionContextAllocationStrategy = Allocation

    def __init__(self, cuda: FakeCuda, plans: Mapping[bytes, Network], rtx: bool = True) -> None:
        self.cuda = cuda
        self.plans = plans
        self.rtx = rtx
        self.diagnosis = 0
        self.contexts: list[Context] = []
        self.logger: Any = None
        self.__version__ = "1.7.1.116" if rtx else "10.13.0.35"
        if rtx:
            self.DynamicShapesKernelSpecializationStrategy = Specialization
            self.EngineInvalidityDiagnostics = SimpleNamespace(__members__=Validity.__members__)

    def Runtime(self, logger: Any) -> Runtime:
        self.logger = logger
        return CheckingRuntime(self) if self.rtx else Runtime(self)

    def refuse(self, text: str) -> bool:
        self.logger.log(Severity.WARNING, "something smaller")
        self.logger.log(Severity.ERROR, text)
        return False
