"""Which file of a version is served, by which engine: chosen when the engine is opened, once for each placement.

    --engine        on a GPU                                       on the CPU
    auto            model.plan, else model.onnx with the reason    model.onnx, the engine that CpuChooser finds
    onnx            model.onnx                                     model.onnx, ONNX Runtime
    openvino        not served                                     model.onnx, OpenVINO
    onnx-tensorrt   model.onnx, ONNX Runtime's TensorRT            not served
    tensorrt        model.plan                                     not served

A version without that file is not served; one that has only a model.plan is not served on the CPU. config.pbtxt may
choose too. `default_model_filename` names the one file to serve, or, if it ends in .plan, the plan.
`platform: "tensorrt_plan"` and `backend: "tensorrt"` request the plan: then `auto` on the CPU has a note why it serves
something else. `gpu_execution_accelerator { name: "tensorrt" }` requests ONNX Runtime's TensorRT if the graph is served
on a GPU. `backend: "onnxruntime"` does not disable model.plan, because `ganserve export` writes that backend for
compatibility with Triton even when it adds an engine. Without a manifest `auto` is ONNX Runtime on the CPU, unless the
config has a `cpu_engine` of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import ONNX, ONNX_FLOAT, ONNX_FP32, PLAN
from artifact.spec import FINITE
from server.engines.base import DeviceId, Engine
from server.engines.float32_fallback import FallbackEngine
from server.engines.float_variant import FloatVariantEngine
from server.engines.tensorrt.cuda import find_gpu
from server.engines.tensorrt.engine import TensorRTEngine
from server.errors import NotServing, StartError
from server.repository.accelerators import read_accelerator
from server.repository.cpu.choice import CpuChooser
from server.repository.cpu.kept import UNKNOWN, Choice
from server.repository.cpu_options import ONNX_ENGINE, cpu_engines, require_cpu_engine
from server.repository.model_config import BACKEND_OF, ONNX_PLATFORM, PLAN_PLATFORM
from server.repository.model_version import ModelVersion
from server.repository.onnx_options import ONNX_TENSORRT, OnnxFactory
from server.repository.session_options import read_tuning
from server.settings import Settings

# Why `auto` compares nothing.
NO_MANIFEST = (
    "not measured: without a manifest nobody knows what its inputs are like; "
    'cpu_engine "auto" in config.pbtxt has engines compared on noise'
)
NO_GPU = "TensorRT needs an NVIDIA GPU; this server runs the model on the CPU"


@dataclass(frozen=True)
class Opened:
    """An engine and what it is. `note`: one line if something else is served than was requested or is best. `choice`:
    its name, its precision and, if it was measured, why it is this one."""

    engine: Engine
    note: str
    platform: str
    choice: Choice = UNKNOWN


def file_names(version: ModelVersion) -> tuple[str, str]:
    """The names of a version's ONNX graph and of its TensorRT engine; only the latter ends in .plan.

    A folder of the graph's name has the graph and its weights in it, as in Triton: model.onnx/model.onnx.
    """
    named = "" if version.config is None else version.config.default_model_filename
    onnx, plan = (ONNX, named) if named.endswith(".plan") else (named or ONNX, PLAN)
    return (f"{onnx}/{ONNX}" if (version.folder / onnx).is_dir() else onnx), plan


def candidates(version: ModelVersion, engine: str, device: DeviceId) -> tuple[str, ...]:
    """The files to try, best first. `engine`: the setting.

    Raises:
        NotServing: there is none.
    """
    config = version.config or ModelConfig()
    onnx, plan = file_names(version)
    named = config.default_model_filename
    wants_plan = (
        config.platform == PLAN_PLATFORM or config.backend == BACKEND_OF[PLAN_PLATFORM] or named.endswith(".plan")
    )
    has_onnx = (version.folder / onnx).is_file()
    has_plan = (version.folder / plan).is_file() and (wants_plan or not named)
    named_file = version.folder / (plan if wants_plan else onnx)
    is_lost = named_file.is_symlink() and not named_file.exists()
    is_other = named_file.exists() and not named_file.is_file()
    what = "a link to what does not exist" if is_lost else "not a file" if is_other else "missing"
    missing = f"is {what} in version {version.version}"
    if engine in ("onnx", "openvino", ONNX_TENSORRT):
        if not has_onnx:
            rest = f"; --engine {engine} does not serve {plan}" if has_plan else ""
            raise NotServing(f"{onnx} {missing}{rest}")
        if engine == ONNX_TENSORRT and device.kind == "cpu":
            raise NotServing(f"--engine {engine}: {NO_GPU}")
        if engine == "openvino" and device.kind == "cuda":
            raise NotServing(f"--engine {engine} runs on the CPU; this model is on {device}")
        return (onnx,)
    if engine == "tensorrt":
        if not has_plan:
            rest = f"; --engine {engine} does not serve {onnx}" if has_onnx else ""
            raise NotServing(f"{plan} {missing}{rest}")
        return (plan,)
    if not (has_plan or has_onnx):
        raise NotServing(f"{plan if wants_plan else onnx} {missing}")
    # A plan that was requested is tried even where it cannot run, or is missing, for the reason.
    tries_plan = wants_plan or (has_plan and (device.kind == "cuda" or not has_onnx))
    return ((plan,) if tries_plan else ()) + ((onnx,) if has_onnx else ())


class EngineFactory:
    """Opens versions as the settings say."""

    def __init__(
        self,
        settings: Settings,
        lanes: int,
        threads: int,
        busy_s: Callable[[], float] = lambda: 0.0,
        *,
        library: Any = None,
        cuda: Any = None,
    ) -> None:
        """`lanes`, `threads`: of the CPU. `busy_s`: see `Pace`. `library`, `cuda`: see `TensorRTEngine`.

        Raises:
            StartError: `--engine` or `--cpu-precision` requests what is not installed or not possible here.
        """
        require_cpu_engine(settings)
        self._settings = settings
        self._onnx = OnnxFactory(settings, lanes, threads)
        self._lanes = lanes
        self._threads = threads
        self._cpu = CpuChooser(settings, lanes, threads, ONNX_ENGINE.candidate(lanes, threads), busy_s)
        self._library = library
        self._cuda = cuda

    def stop(self) -> None:
        """Ends what is being measured, since the server is stopping. From any thread."""
        self._cpu.stop()

    def open(self, version: ModelVersion, device: DeviceId, batched: bool) -> Opened:
        """The version on `device`. Blocks; on any thread.

        Raises:
            NotServing: nothing of it can be served there; the text is the reason.
        """
        reason = ""
        for name in candidates(version, self._settings.engine, device):
            try:
                engine, note, choice = self._open_file(version, name, device, batched)
                engine = self._with_fallback(engine, version, name, device, batched)
                engine = self._with_float_variant(engine, version, device, batched)
            except StartError as error:
                reason = "; ".join(part for part in (reason, str(error)) if part)
                continue
            served = f"serves {name}: {reason}" if reason else ""
            platform = PLAN_PLATFORM if name.endswith(".plan") else ONNX_PLATFORM
            return Opened(engine, "; ".join(part for part in (served, note) if part), platform, choice)
        raise NotServing(reason)

    def open_beside(self, version: ModelVersion, name: str, device: DeviceId) -> Engine:
        """A further graph of the version, which computes in float32, in ONNX Runtime. Blocks; on any thread.

        Raises:
            StartError: ONNX Runtime cannot open it.
        """
        return self._onnx.open(version, name, device, batched=True, is_spare=True)[0]

    def _open_file(
        self, version: ModelVersion, name: str, device: DeviceId, batched: bool
    ) -> tuple[Engine, str, Choice]:
        """The engine, its note and what it is."""
        spec = version.spec
        if name.endswith(".plan"):
            if not (version.folder / name).is_file():
                raise StartError(f"{name} is missing in version {version.version}")
            precision = "" if spec is None or spec.plan is None else spec.plan.precision
            return self._open_plan(version, name, device, batched), "", Choice("tensorrt", precision)
        if device.kind == "cuda":
            engine, note = self._onnx.open(version, name, device, batched)
            return engine, note, Choice("onnx", "" if spec is None else spec.precision)
        engine, choice = self._open_on_cpu(version, name, batched)
        return engine, choice.note, choice

    def _open_on_cpu(self, version: ModelVersion, name: str, batched: bool) -> tuple[Engine, Choice]:
        if version.leaves_size and not batched:
            # Only to see whether the graph has a batch axis; if it has, it is opened again.
            engine = ONNX_ENGINE.open(version.folder / name, self._lanes, self._threads, False)
            if has_batch_axis(engine):
                return engine, UNKNOWN
            engine.close()
        tuning = read_tuning(version.config)
        gives_images = version.spec is not None and version.spec.tensors == "uint8"
        possible = cpu_engines(self._settings, version.config, gives_images)
        asks = version.config is not None and "cpu_engine" in version.config.parameters
        if version.spec is None and not asks and possible[0] == ONNX_ENGINE and len(possible) > 1:
            engine = ONNX_ENGINE.open(version.folder / name, self._lanes, self._threads, batched, tuning)
            return engine, Choice(*ONNX_ENGINE, NO_MANIFEST)
        rivals = [each.candidate(self._lanes, self._threads, tuning) for each in possible]
        return self._cpu.open(version, name, batched, rivals)

    def _open_plan(self, version: ModelVersion, name: str, device: DeviceId, batched: bool) -> Engine:
        if device.kind == "cpu":
            raise StartError(f"{name}: {NO_GPU}")
        accelerator = read_accelerator(version.config)
        capability = find_gpu(device, self._cuda).compute_capability.replace(".", "")
        kept = f"{version.sha256(name)[:16]}-sm{capability}.cache"
        return TensorRTEngine(
            version.folder / name,
            None if version.spec is None else version.spec.plan,
            device,
            batched,
            self._settings.cache_folder / "tensorrt-rtx" / kept,
            None if accelerator is None else accelerator.precision,
            library=self._library,
            cuda=self._cuda,
        )

    def _with_fallback(
        self, engine: Engine, version: ModelVersion, name: str, device: DeviceId, batched: bool
    ) -> Engine:
        """`engine` without its flag, if the graph has one: items that are not finite are computed again."""
        has_flag = any(tensor.name == FINITE for tensor in engine.outputs)
        if version.spec is None or not has_flag or any(tensor.name == FINITE for tensor in version.spec.outputs):
            return engine
        precise: Engine | None = None
        try:
            spare = _more_precise(version, name)
            if spare is not None:
                precise, _ = self._onnx.open(version, spare, device, batched, is_spare=True)
            return FallbackEngine(engine, precise)
        except StartError:
            for opened in (engine, precise):
                if opened is not None:
                    opened.close()
            raise

    def _with_float_variant(self, engine: Engine, version: ModelVersion, device: DeviceId, batched: bool) -> Engine:
        """`engine`, which also runs images of 16 bits, if the version has a graph for them."""
        spec = version.spec
        if spec is None or spec.float_parity is None or not batched or not (version.folder / ONNX_FLOAT).is_file():
            return engine

        def open_float() -> Engine:
            return self._onnx.open(version, ONNX_FLOAT, device, batched, is_spare=True)[0]

        return FloatVariantEngine(engine, spec.inputs[0].name, open_float)


def _more_precise(version: ModelVersion, name: str) -> str | None:
    """The file with the same network in float32; None if `name` is that, or there is none."""
    onnx, _ = file_names(version)
    choices = (ONNX_FP32, onnx) if name.endswith(".plan") else (ONNX_FP32,)
    return next((file for file in choices if file != name and (version.folder / file).is_file()), None)


def has_batch_axis(engine: Engine) -> bool:
    """Triton's rule for a config that says nothing of it: a first axis that is free in every tensor is the batch."""
    return all(tensor.shape and tensor.shape[0] == -1 for tensor in (*engine.inputs, *engine.outputs))
