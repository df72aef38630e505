"""What may run a version's graph on the CPU: the settings, and config.pbtxt's parameters for one model.

parameters { key: "cpu_engine" value { string_value: "openvino" } }
parameters { key: "cpu_precision" value { string_value: "bf16" } }
"""

from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import CONFIG
from server.engines.base import Engine
from server.engines.onnx.cpu import OnnxCpuEngine
from server.engines.onnx.tuning import UNTUNED, Tuning
from server.engines.openvino import available, bf16_supported
from server.errors import NotServing, StartError
from server.repository.accelerators import CPU_ACCELERATOR
from server.repository.cpu.contest import Candidate
from server.settings import Settings

NOT_INSTALLED = "OpenVINO is not installed; install 'ganserve[openvino]'"
NO_BF16 = "this processor has no bf16 instructions (AVX512-BF16 or AMX)"
# The values of the parameters in config.pbtxt.
ENGINES = ("auto", "onnx", "openvino")
PRECISIONS = ("auto", "fp32", "bf16")

Precision: TypeAlias = Literal["fp32", "bf16"]


class CpuEngine(NamedTuple):
    """An engine of the CPU and what it computes in."""

    engine: Literal["onnx", "openvino"]
    precision: Precision

    def candidate(self, lanes: int, threads: int, tuning: Tuning = UNTUNED) -> Candidate:
        """It as a candidate, with so many runs at once and threads of all of them. `tuning`: of ONNX Runtime."""
        distribution, options = ("onnxruntime", str(tuning)) if self.engine == "onnx" else ("openvino", "")

        def open_graph(path: Path, batched: bool) -> Engine:
            return self.open(path, lanes, threads, batched, tuning)

        return Candidate(self.engine, self.precision, distribution, open_graph, options)

    def open(self, path: Path, lanes: int, threads: int, batched: bool, tuning: Tuning = UNTUNED) -> Engine:
        """The graph in it. Blocks.

        Raises:
            StartError: it cannot be opened.
            ImportError: the engine's installation is damaged.
        """
        if self.engine == "onnx":
            return OnnxCpuEngine(path, lanes, threads, batched, tuning)
        if not available():
            raise StartError(f"{path}: {NOT_INSTALLED}")
        # Imported here, so that a server which does not use it does not pay for it.
        try:
            from server.engines.openvino.engine import OpenVinoCpuEngine
        except ImportError as error:  # a library that it needs is missing, or of another version
            raise ImportError(f"OpenVINO cannot be loaded: {error}") from error

        return OpenVinoCpuEngine(path, lanes, threads, batched, self.precision)


ONNX_ENGINE = CpuEngine("onnx", "fp32")
ALL = (ONNX_ENGINE, CpuEngine("openvino", "fp32"), CpuEngine("openvino", "bf16"))


def cpu_engines(settings: Settings, config: ModelConfig | None, gives_images: bool = True) -> tuple[CpuEngine, ...]:
    """What may run the model's graph here, the one that serves if nothing else is known first.

    A parameter of the model's own goes before the setting, and before `cpu_execution_accelerator { name: "openvino" }`.

    Args:
        gives_images: whether the outputs are known to be images as uint8. If not, bf16 is there only if it was
            requested: nobody knows how near to float32 the values must be.

    Raises:
        NotServing: config.pbtxt requests what does not exist or is not possible here; the text is the reason.
    """
    engine = _parameter(config, "cpu_engine", ENGINES) or _accelerator(config) or settings.engine
    precision = _parameter(config, "cpu_precision", PRECISIONS) or settings.cpu_precision
    found = _matching(engine, precision)
    if precision == "auto" and not gives_images:
        found = tuple(each for each in found if each.precision != "bf16")
    possible = tuple(each for each in found if not _missing(each))
    if possible:
        return possible
    reason = _missing(found[0]) if found else "ONNX Runtime computes in float32"
    raise NotServing(f"engine {engine} and precision {precision} on the CPU: {reason}")


def require_cpu_engine(settings: Settings) -> None:
    """Checks that the settings name an engine that is installed and runs here.

    Raises:
        StartError: they do not.
    """
    if settings.engine == "openvino" and settings.device.startswith("cuda"):
        raise StartError(f"--engine openvino runs on the CPU; --device is {settings.device}")
    try:
        cpu_engines(settings, None)
    except NotServing as error:
        raise StartError(str(error)) from None


def _matching(engine: str, precision: str) -> tuple[CpuEngine, ...]:
    # Other settings of --engine are for GPUs.
    engines = (engine,) if engine in ("onnx", "openvino") else ("onnx", "openvino")
    return tuple(each for each in ALL if each.engine in engines and precision in ("auto", each.precision))


def _missing(engine: CpuEngine) -> str:
    """Why it cannot run here, "" if it can."""
    if engine.engine == "openvino" and not available():
        return NOT_INSTALLED
    return NO_BF16 if engine.precision == "bf16" and not bf16_supported() else ""


def _accelerator(config: ModelConfig | None) -> str:
    """The engine that Triton's accelerator stands for; OpenVINO is the only one, see `check_accelerators`."""
    is_set = config is not None and config.optimization.execution_accelerators.cpu_execution_accelerator
    return CPU_ACCELERATOR if is_set else ""


def _parameter(config: ModelConfig | None, key: str, values: tuple[str, ...]) -> str | None:
    if config is None or key not in config.parameters:
        return None
    value = str(config.parameters[key].string_value)
    if value not in values:
        raise NotServing(f"{CONFIG}: parameter {key} {value!r} is not supported; {', '.join(values)} are")
    return value
