"""Which file of a version is served, by which engine: decided where the engine is opened, once for each placement.

    --engine        on a GPU                                       on the CPU
    auto            model.plan, else model.onnx with the reason    model.onnx
    onnx            model.onnx                                     model.onnx
    onnx-tensorrt   model.onnx, ONNX Runtime's TensorRT            not served
    tensorrt        model.plan                                     not served

A version without that file is not served; one that has nothing but a plan is not served on the CPU. config.pbtxt may
ask for more. `default_model_filename` names the one file to serve, or, where it ends in .plan, the plan.
`platform: "tensorrt_plan"` and `backend: "tensorrt"` ask for a plan: then `auto` on the CPU says why it serves
something else. `gpu_execution_accelerator { name: "tensorrt" }` asks for ONNX Runtime's TensorRT where the graph is
served on a GPU. `backend: "onnxruntime"` keeps nobody from the plan: exports say it, for a Triton server, of both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import ONNX, ONNX_FP32, PLAN, sha256_of
from artifact.spec import FINITE, Spec
from artifact.tensorrt import version
from server.engines.base import Arrays, Engine
from server.engines.float32_fallback import CheckedEngine
from server.engines.tensorrt.engine import TrtEngine, find_gpu, refusal
from server.errors import NotServing, StartError
from server.repository.model_config import AUTO_MAX_BATCH_SIZE, BACKEND_OF, ONNX_PLATFORM, PLAN_PLATFORM
from server.repository.onnx_options import ONNX_TENSORRT, Accelerator, Graph, OnnxOpening, read_accelerator
from server.settings import Settings

NO_GPU = "TensorRT needs an NVIDIA GPU; this server runs the model on the CPU"


@dataclass(frozen=True)
class Opened:
    """An engine and what it is. `note`: one line where something else is served than was asked for or is best."""

    engine: Engine
    note: str
    platform: str


@dataclass(frozen=True)
class Files:
    """The names of a version's two files, and which of them are there. `asks_plan`: config.pbtxt wants the plan."""

    onnx: str
    plan: str
    has_onnx: bool
    has_plan: bool
    asks_plan: bool

    @staticmethod
    def of(folder: Path, config: ModelConfig | None) -> "Files":
        """As the folder and its model's config have them."""
        named = "" if config is None else config.default_model_filename
        onnx = ONNX if named.endswith(".plan") or not named else named
        plan = named if named.endswith(".plan") else PLAN
        asks_plan = config is not None and (
            config.platform == PLAN_PLATFORM or config.backend == BACKEND_OF[PLAN_PLATFORM] or named.endswith(".plan")
        )
        has_plan = (folder / plan).is_file() and (asks_plan or not named)
        return Files(onnx, plan, (folder / onnx).is_file(), has_plan, asks_plan)


def candidates(files: Files, engine: str, device: str, version_name: str) -> tuple[str, ...]:
    """The files to try, best first. `engine`: the setting.

    Raises:
        NotServing: there is none.
    """
    on_gpu = device != "cpu"
    missing = f"is missing in version {version_name}"
    if engine in ("onnx", ONNX_TENSORRT):
        if not files.has_onnx:
            rest = f"; --engine {engine} does not serve {files.plan}" if files.has_plan else ""
            raise NotServing(f"{files.onnx} {missing}{rest}")
        if engine == ONNX_TENSORRT and not on_gpu:
            raise NotServing(f"--engine {engine}: {NO_GPU}")
        return (files.onnx,)
    if engine == "tensorrt":
        if not files.has_plan:
            rest = f"; --engine {engine} does not serve {files.onnx}" if files.has_onnx else ""
            raise NotServing(f"{files.plan} {missing}{rest}")
        return (files.plan,)
    if not (files.has_plan or files.has_onnx):
        raise NotServing(f"{files.plan if files.asks_plan else files.onnx} {missing}")
    # On the CPU a plan is tried for its reason, where there is nothing else or it was asked for.
    tries_plan = files.has_plan and (on_gpu or files.asks_plan or not files.has_onnx)
    return ((files.plan,) if tries_plan else ()) + ((files.onnx,) if files.has_onnx else ())


class Opening:
    """Opens versions as the settings say."""

    def __init__(self, settings: Settings, lanes: int, threads: int, *, library: Any = None, cuda: Any = None) -> None:
        """`lanes`, `threads`: of the CPU. `library`, `cuda`: see `TrtEngine`.

        Raises:
            StartError: `--engine` asks for what this ONNX Runtime does not have.
        """
        self._settings = settings
        self._onnx = OnnxOpening(settings, lanes, threads)
        self._library = library
        self._cuda = cuda

    def open(
        self,
        folder: Path,
        config: ModelConfig | None,
        spec: Spec | None,
        device: str,
        batched: bool,
        fell_back: Callable[[int], None],
    ) -> Opened:
        """The version in `folder` on `device` (`cpu` or `cuda:N`). Blocks; on any thread.

        `fell_back` is called with the rows of each batch that were computed again in float32; see `CheckedEngine`.

        Raises:
            NotServing: nothing of it can be served there; the text is the reason.
        """
        files = Files.of(folder, config)
        wish = _Wish(folder, config, spec, device, batched)
        reason = ""
        for name in candidates(files, self._settings.engine, device, folder.name):
            try:
                if name == files.plan:
                    engine, note = self._open_plan(wish, name), ""
                else:
                    engine, note = self._onnx.open(wish.graph(name), device, wish.accelerator)
                checked = self._checked(wish, name, files, engine, fell_back)
            except StartError as error:
                reason = "; ".join(part for part in (reason, str(error)) if part)
                continue
            refused = f"serves {name}: {reason}" if reason else ""
            platform = PLAN_PLATFORM if name == files.plan else ONNX_PLATFORM
            return Opened(checked, "; ".join(part for part in (refused, note) if part), platform)
        raise NotServing(reason)

    def _open_plan(self, wish: "_Wish", name: str) -> Engine:
        plan = None if wish.spec is None else wish.spec.plan
        if wish.device == "cpu":
            raise StartError(f"{name}: {NO_GPU}")
        gpu = find_gpu(wish.device, self._cuda)
        accelerator = wish.accelerator
        if plan is not None and accelerator is not None:
            known = version(plan.variant) if self._library is None else self._library.__version__
            reason = refusal(plan, gpu, known, accelerator.precision)
            if reason:
                raise StartError(reason)
        path = wish.folder / name
        digest = ({} if wish.spec is None else wish.spec.files).get(name) or sha256_of(path)
        kept = f"{digest[:16]}-sm{gpu.compute_capability.replace('.', '')}.cache"
        cache = self._settings.cache_folder / "tensorrt-rtx" / kept
        return TrtEngine(path, plan, wish.device, wish.batched, cache, library=self._library, cuda=self._cuda)

    def _checked(
        self, wish: "_Wish", name: str, files: Files, engine: Engine, fell_back: Callable[[int], None]
    ) -> Engine:
        """`engine` without its flag, where the graph has one: rows that are not finite are computed again."""
        told = () if wish.spec is None else wish.spec.outputs
        has_flag = any(tensor.name == FINITE for tensor in engine.outputs)
        if wish.spec is None or not has_flag or any(tensor.name == FINITE for tensor in told):
            return engine
        precise: Engine | None = None
        try:
            precise = self._precise(wish, name, files) or _NothingBetter(engine)
            return CheckedEngine(engine, precise, fell_back)
        except StartError:
            for opened in (engine, precise):
                if opened is not None:
                    opened.close()
            raise

    def _precise(self, wish: "_Wish", name: str, files: Files) -> Engine | None:
        """The same network in float32; None where what is served is that, or nothing better lies beside it."""
        if name != ONNX_FP32 and (wish.folder / ONNX_FP32).is_file():
            return self._onnx.open(wish.graph(ONNX_FP32, is_spare=True), wish.device, None)[0]
        if name == files.plan and files.has_onnx:
            return self._onnx.open(wish.graph(files.onnx, is_spare=True), wish.device, None)[0]
        return None


@dataclass(frozen=True)
class _Wish:
    """What is to be opened, and where."""

    folder: Path
    config: ModelConfig | None
    spec: Spec | None
    device: str
    batched: bool

    @property
    def accelerator(self) -> Accelerator | None:
        """What config.pbtxt asks of TensorRT; it says so of GPUs alone."""
        return None if self.device == "cpu" else read_accelerator(self.config)

    def graph(self, name: str, is_spare: bool = False) -> Graph:
        """The version's ONNX file of that name."""
        precision = None if self.spec is None else "fp32" if name == ONNX_FP32 else self.spec.precision
        rows = self.config.max_batch_size if self.config is not None else AUTO_MAX_BATCH_SIZE
        return Graph(self.folder / name, self.spec, precision, self.batched, rows if self.batched else 0, is_spare)


class _NothingBetter:
    """In place of a graph of more precision, where there is none: a row that is not finite has no picture."""

    def __init__(self, engine: Engine) -> None:
        self.inputs = engine.inputs
        self.outputs = engine.outputs

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Takes every shape."""

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        """Fails: running the same graph again would give the same."""
        raise ArithmeticError("not every value of the output is finite, and there is no graph of more precision")

    def close(self) -> None:
        """Holds nothing."""
