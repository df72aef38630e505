"""A version's ONNX graph on a device: the CPU's engine, the CUDA provider, or the TensorRT provider and its options."""

from collections.abc import Sequence
from pathlib import Path

from artifact.repository import CONFIG, CRITIC, ONNX_FLOAT, ONNX_FP32
from artifact.shapes import Profile
from artifact.spec import TensorSpec
from server.engines.base import DeviceId, Engine
from server.engines.onnx.cpu import OnnxCpuEngine
from server.engines.onnx.gpu import OnnxGpuEngine
from server.engines.onnx.options import (
    BuiltFor,
    batch_sizes,
    conv_search,
    cuda_options,
    tensorrt_options,
    tensorrt_profile,
    tensorrt_version,
)
from server.engines.onnx.session import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    TENSORRT_PROVIDER,
    Provider,
    has_cuda,
    no_provider,
    read_inputs,
    require_provider,
)
from server.engines.tensorrt.cuda import find_gpu
from server.errors import StartError
from server.repository.accelerators import Accelerator, read_accelerator
from server.repository.model_version import ModelVersion
from server.repository.session_options import read_tuning
from server.settings import Settings

ONNX_TENSORRT = "onnx-tensorrt"


class OnnxFactory:
    """Opens ONNX graphs as the settings say."""

    def __init__(self, settings: Settings, lanes: int, threads: int) -> None:
        """`lanes`, `threads`: of the CPU.

        Raises:
            StartError: `--engine` requests a provider that this ONNX Runtime does not have.
        """
        if settings.engine == ONNX_TENSORRT:
            require_provider(TENSORRT_PROVIDER, f"--engine {ONNX_TENSORRT}")
        if settings.engine == "onnx" and settings.device.startswith("cuda"):
            require_provider(CUDA_PROVIDER, f"--engine onnx on device {settings.device}")
        self._settings = settings
        self._lanes = lanes
        self._threads = threads

    def open(
        self, version: ModelVersion, file_name: str, device: DeviceId, batched: bool, is_spare: bool = False
    ) -> tuple[Engine, str]:
        """The engine on `device`, and why it is not on TensorRT, or not on the GPU, if that was requested.

        If ONNX Runtime has no CUDA, the graph runs on the CPU, and the note says so: the server is on a GPU for its
        TensorRT engines then.

        Args:
            is_spare: it only runs items that another engine could not, which is rare: it takes little memory.

        Raises:
            StartError: ONNX Runtime cannot open the graph there.
            NotServing: config.pbtxt requests an accelerator that is not supported.
        """
        path = version.folder / file_name
        if device.kind == "cpu":
            return OnnxCpuEngine(path, self._lanes, self._threads, batched, read_tuning(version.config)), ""
        accelerator = None if is_spare else read_accelerator(version.config)
        if not has_cuda():
            note = f"{file_name} runs on the CPU: {no_provider(CUDA_PROVIDER)}; install 'ganserve[cuda]'"
            return OnnxCpuEngine(path, 1, self._threads, batched, read_tuning(version.config)), note
        inputs = _inputs(version, path, batched)
        max_batch_size = version.max_batch_size if batched else 0
        cuda = (CUDA_PROVIDER, self._cuda_options(inputs, _precision(version, file_name), device, is_spare))
        note = ""
        if accelerator is not None or (self._settings.engine == ONNX_TENSORRT and not is_spare):
            try:
                require_provider(TENSORRT_PROVIDER, f"{CONFIG} requests TensorRT")
                profile = tensorrt_profile(inputs, version.spec, max_batch_size)
                if profile is not None:
                    first = self._tensorrt(version, file_name, device, profile, accelerator or Accelerator())
                    providers = [first, cuda, (CPU_PROVIDER, {})]
                    return OnnxGpuEngine(path, providers, max_batch_size, profile), ""
                reason = "its sizes are free and it has no tile, so it has no profile"
            except StartError as error:
                if self._settings.engine == ONNX_TENSORRT:
                    raise
                reason = str(error)
            note = f"{file_name} runs without TensorRT: {reason}"
        sizes = () if is_spare else batch_sizes(max_batch_size)
        return OnnxGpuEngine(path, [cuda, (CPU_PROVIDER, {})], max_batch_size, sizes=sizes), note

    def _cuda_options(
        self, inputs: Sequence[TensorSpec], precision: str | None, device: DeviceId, is_spare: bool
    ) -> dict[str, str]:
        setting = self._settings.conv_search
        search = conv_search("heuristic" if is_spare and setting == "auto" else setting, inputs)
        return cuda_options(device.index, search, precision, self._settings.gpu_memory_bytes)

    def _tensorrt(
        self, version: ModelVersion, file_name: str, device: DeviceId, profile: Profile, accelerator: Accelerator
    ) -> Provider:
        """The TensorRT provider, with a folder for the engines that it builds.

        Raises:
            StartError: the folder cannot be written.
        """
        precision = accelerator.precision or _precision(version, file_name) or "fp32"
        built_for = BuiltFor(version.sha256(file_name), _capability(device), tensorrt_version(), precision, profile)
        # A folder each: ONNX Runtime's own names for engines do not tell shapes apart (microsoft/onnxruntime#32254).
        folder = self._settings.cache_folder / "onnxruntime" / built_for.key
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"{folder}: {error.strerror}; --engine-cache sets where engines are kept") from None
        options = tensorrt_options(device.index, profile, precision, folder, accelerator.workspace_bytes)
        return TENSORRT_PROVIDER, options


def _precision(version: ModelVersion, file_name: str) -> str | None:
    """fp32 or fp16; None without a manifest."""
    if version.spec is None:
        return None
    return "fp32" if file_name in (ONNX_FP32, ONNX_FLOAT, CRITIC) else version.spec.precision


def _inputs(version: ModelVersion, path: Path, batched: bool) -> tuple[TensorSpec, ...]:
    """From the manifest, whose tensors are compared with the graph's before it serves; else from the file."""
    return version.spec.inputs if version.spec is not None and batched else read_inputs(path, batched)


def _capability(device: DeviceId) -> str:
    """The GPU's, as "9.0". Without cuda-bindings "any": ONNX Runtime also writes it into the names of its files."""
    try:
        return find_gpu(device).compute_capability
    except StartError:
        return "any"
