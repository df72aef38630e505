"""An ONNX graph on a device: the CPU's engine, the CUDA provider, or the TensorRT provider with what it has to know."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import CONFIG, sha256_of
from artifact.spec import Spec, TensorSpec
from server.engines.base import Engine
from server.engines.onnx.cpu import CPU, CUDA, OrtEngine, has_cuda, no_provider
from server.engines.onnx.gpu import (
    TENSORRT,
    BoundEngine,
    BuiltFor,
    Profile,
    Provider,
    batch_sizes,
    conv_search,
    cuda_options,
    read_inputs,
    require_provider,
    tensorrt_options,
    tensorrt_profile,
    tensorrt_version,
)
from server.engines.tensorrt.engine import find_gpu
from server.errors import NotServing, StartError
from server.settings import Settings

ONNX_TENSORRT = "onnx-tensorrt"
# Triton's words for the precision of its TensorRT accelerator -> ours. INT8 needs a calibration that nobody sends.
PRECISIONS: Mapping[str, str] = {"FP32": "fp32", "FP16": "fp16"}


@dataclass(frozen=True)
class Accelerator:
    """What `gpu_execution_accelerator { name: "tensorrt" }` asks for; None: the choice is ours."""

    precision: str | None
    workspace_bytes: int | None


@dataclass(frozen=True)
class Graph:
    """An ONNX file of a version.

    `precision`: fp32 or fp16, None without a manifest. `max_batch_size`: 0 without a batch axis. `is_spare`: it runs
    only what another engine could not, a few rows now and then, and takes no memory for speed.
    """

    path: Path
    spec: Spec | None
    precision: str | None
    batched: bool
    max_batch_size: int
    is_spare: bool = False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """From the manifest, whose tensors are compared with the graph's before it serves; else from the file.

        Raises:
            StartError: ONNX Runtime cannot read it.
        """
        return self.spec.inputs if self.spec is not None and self.batched else read_inputs(self.path, self.batched)

    @property
    def sha256(self) -> str:
        """Of the file; from the manifest, where that has it."""
        known = {} if self.spec is None else self.spec.files
        return known.get(self.path.name) or sha256_of(self.path)


@dataclass(frozen=True)
class Way:
    """How a graph runs on a GPU; see `BoundEngine`. `note`: why it is not the way that was asked for."""

    providers: tuple[Provider, ...]
    profile: Profile | None
    sizes: tuple[int, ...]
    note: str


class OnnxOpening:
    """Opens graphs as the settings say."""

    def __init__(self, settings: Settings, lanes: int, threads: int) -> None:
        """`lanes`, `threads`: of the CPU.

        Raises:
            StartError: `--engine` asks for a provider that this ONNX Runtime does not have.
        """
        if settings.engine == ONNX_TENSORRT:
            require_provider(TENSORRT, f"--engine {ONNX_TENSORRT}")
        if settings.engine == "onnx" and settings.device.startswith("cuda"):
            require_provider(CUDA, f"--engine onnx on device {settings.device}")
        self._settings = settings
        self._lanes = lanes
        self._threads = threads

    def open(self, graph: Graph, device: str, accelerator: Accelerator | None) -> tuple[Engine, str]:
        """The engine on `device`, and why it is not on TensorRT, or not on the GPU, where that was asked for.

        An ONNX Runtime without CUDA serves beside TensorRT what that does not take: on the CPU, and says so.

        Raises:
            StartError: ONNX Runtime cannot open the graph there.
        """
        if device == "cpu":
            return OrtEngine(graph.path, self._lanes, self._threads, graph.batched), ""
        if not has_cuda():
            note = f"{graph.path.name} runs on the CPU: {no_provider(CUDA)}; 'ganserve[cuda]' brings it"
            return OrtEngine(graph.path, 1, self._threads, graph.batched), note
        if graph.is_spare or (self._settings.engine != ONNX_TENSORRT and accelerator is None):
            return _open(graph, device, self.cuda_way(graph, device)), ""
        try:
            require_provider(TENSORRT, f"{CONFIG} asks for TensorRT")
            way = self.tensorrt_way(graph, device, accelerator or Accelerator(None, None))
            return _open(graph, device, way), way.note
        except StartError as error:
            if self._settings.engine == ONNX_TENSORRT:
                raise
            note = f"{graph.path.name} runs without TensorRT: {error}"
            return _open(graph, device, self.cuda_way(graph, device)), note

    def cuda_way(self, graph: Graph, device: str, note: str = "") -> Way:
        """Through the CUDA provider.

        Raises:
            StartError: the graph cannot be read.
        """
        sizes = () if graph.is_spare else batch_sizes(graph.max_batch_size)
        return Way(((CUDA, self._cuda_options(graph, device)), (CPU, {})), None, sizes, note)

    def tensorrt_way(self, graph: Graph, device: str, accelerator: Accelerator) -> Way:
        """Through the TensorRT provider, with a profile and a folder of the cache for it; without it where the graph
        has no profile.

        Raises:
            StartError: the graph cannot be read, or the cache not written.
        """
        profile = tensorrt_profile(graph.inputs, graph.spec, graph.max_batch_size)
        if profile is None:
            why = "its sizes are free and it has no tile, so it has no profile"
            return self.cuda_way(graph, device, f"{graph.path.name} runs without TensorRT: {why}")
        precision = accelerator.precision or graph.precision or "fp32"
        built_for = BuiltFor(graph.sha256, _capability(device), tensorrt_version(), precision, profile)
        # A folder each: ONNX Runtime's own names for engines do not tell shapes apart (microsoft/onnxruntime#32254).
        folder = self._settings.cache_folder / "onnxruntime" / built_for.key
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"{folder}: {error.strerror}; --engine-cache says where engines are kept") from None
        options = tensorrt_options(_index(device), profile, precision, folder, accelerator.workspace_bytes)
        return Way(((TENSORRT, options), (CUDA, self._cuda_options(graph, device)), (CPU, {})), profile, (), "")

    def _cuda_options(self, graph: Graph, device: str) -> dict[str, str]:
        asked = "heuristic" if graph.is_spare and self._settings.conv_search == "auto" else self._settings.conv_search
        search = conv_search(asked, graph.inputs)
        return cuda_options(_index(device), search, graph.precision, self._settings.gpu_memory_bytes)


def _open(graph: Graph, device: str, way: Way) -> Engine:
    rows = graph.max_batch_size
    return BoundEngine(graph.path, device, way.providers, graph.batched, rows, way.profile, way.sizes)


def read_accelerator(config: ModelConfig | None) -> Accelerator | None:
    """What the config's `optimization` asks of TensorRT, None where it does not.

    Of Triton's parameters `precision_mode` and `max_workspace_size_bytes` count; profiles and caches are ours.

    Raises:
        NotServing: a value that means nothing here.
    """
    asked = () if config is None else config.optimization.execution_accelerators.gpu_execution_accelerator
    for entry in asked:
        if entry.name != "tensorrt":
            raise NotServing(f"{CONFIG}: gpu_execution_accelerator {entry.name!r} is not served here; 'tensorrt' is")
        precision = entry.parameters.get("precision_mode")
        if precision is not None and precision not in PRECISIONS:
            raise NotServing(f"{CONFIG}: precision_mode {precision!r} is not served here; {', '.join(PRECISIONS)} are")
        workspace = entry.parameters.get("max_workspace_size_bytes")
        if workspace is not None and not (workspace.isascii() and workspace.isdecimal()):
            raise NotServing(f"{CONFIG}: max_workspace_size_bytes {workspace!r} is not a number of bytes")
        return Accelerator(PRECISIONS.get(precision or ""), None if workspace is None else int(workspace))
    return None


def _index(device: str) -> int:
    return int(device.partition(":")[2] or 0)


def _capability(device: str) -> str:
    """The GPU's, as "9.0". Without cuda-bindings "any": ONNX Runtime also writes it into the names of its files."""
    try:
        return find_gpu(device).compute_capability
    except StartError:
        return "any"
