"""ONNX -> a serialized TensorRT engine, by one code path for TensorRT for RTX and classic TensorRT.

Networks are strongly typed: the precision is that of the graph.
"""

import importlib
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import uses_external_data

from artifact import tensorrt
from artifact.repository import sha256_of
from artifact.spec import ShapeRange, TensorRTPlan
from export.engine.builder_log import Phases, Problems, Progress, logger, monitor, set_flags, unsupported_nodes
from export.engine.cache import PlanCache, write
from export.engine.targets import CURRENT, capability_members, target_capabilities
from export.errors import ExportError
from models.zoo.fetch import default_cache


def build(
    onnx_path: Path,
    plan_path: Path,
    *,
    variant: str,
    precision: str,
    profiles: Sequence[Mapping[str, ShapeRange]],
    compute_capabilities: Sequence[str] = (),
    cache_dir: Path | None = None,
    progress: Progress = lambda line, share: None,
    library: Any = None,
    cuda: Any = None,
) -> TensorRTPlan:
    """Writes the engine of a graph to `plan_path` and returns what it was built from, with and for.

    An engine that was built before is taken from `cache_dir` (default: the user's cache). Ctrl-C stops the builder at
    its next step.

    Args:
        variant: "rtx" or "classic".
        precision: of the graph: fp32, fp16 or bf16.
        compute_capabilities: GPUs to build for, as "8.9", or "current". Default: for rtx a portable engine, for
            classic one for the local GPU.
        progress: called with each step; during the build with the share (0..1) that is done, on another thread.
        library: TensorRT's module (default: the installed one).
        cuda: `cuda.bindings.runtime` (default: the installed one).

    Raises:
        ExportError: the library is missing, or refuses the target, the graph or a profile; nothing was written.
    """
    trt = library or installed_library(variant)
    targets = target_capabilities(variant, compute_capabilities, precision, trt, lambda: local_compute_capability(cuda))
    version = str(trt.__version__)
    plan = TensorRTPlan(variant, version, targets, precision, sha256_of(onnx_path), tuple(profiles))
    cache = PlanCache(cache_dir or default_cache()) if _has_weights_inside(onnx_path) else None
    cached = cache.find(plan) if cache else None
    if cached:
        progress("this engine was built before: taken from the cache", None)
        write(plan_path, cached.read_bytes())
        return plan
    progress(f"building the engine with {tensorrt.NAMES[variant]} {version}", None)
    timing = cache.timing(plan) if cache and variant == "classic" else None
    members: tuple[Any, ...] = ()
    if variant != "classic":
        known = {**capability_members(trt), CURRENT: trt.ComputeCapability.CURRENT}
        members = (known[CURRENT],) if CURRENT in compute_capabilities else tuple(known[target] for target in targets)
    write(plan_path, _stoppable(_BuilderRun(trt, onnx_path, plan, members, timing), progress))
    if cache:
        try:
            cache.keep(plan, plan_path)
        except OSError as error:
            progress(f"the engine cannot be kept in the cache: {error}", None)
    return plan


def local_compute_capability(cuda: Any = None) -> str:
    """The compute capability of the first local GPU, as "8.9".

    Raises:
        ExportError: there is none, or no driver for it.
    """
    try:
        cuda = cuda or importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise ExportError(f"cannot query the local GPU ({error}): install 'ganserve[tensorrt-rtx]'") from None
    numbers = []
    for attribute in ("cudaDevAttrComputeCapabilityMajor", "cudaDevAttrComputeCapabilityMinor"):
        code, number = cuda.cudaDeviceGetAttribute(getattr(cuda.cudaDeviceAttr, attribute), 0)
        if code != cuda.cudaError_t.cudaSuccess:
            words = cuda.cudaGetErrorString(code)[1].decode()
            raise ExportError(f"building for the local GPU needs a GPU and its driver: {words}")
        numbers.append(str(number))
    return ".".join(numbers)


def installed_library(variant: str) -> Any:
    """TensorRT's module.

    Raises:
        ExportError: it is not installed or cannot be loaded; names the extra that installs it.
    """
    try:
        return tensorrt.load(variant)
    except tensorrt.TensorRTMissing as error:
        raise ExportError(str(error)) from None


def _has_weights_inside(onnx_path: Path) -> bool:
    """Whether the graph's file contains its weights, so that its sha256 identifies them too."""
    try:
        graph = onnx.load(onnx_path, load_external_data=False).graph
    except DecodeError:
        raise ExportError(f"{onnx_path.name} is not an ONNX graph") from None
    return not any(uses_external_data(tensor) for tensor in graph.initializer)


@dataclass(frozen=True)
class _BuilderRun:
    """What one run of a builder needs.

    `members`: the library's enum members for the GPUs to build for. `timing`: the file of kernel timings, classic only
    (TensorRT for RTX times nothing; its timing cache is a deprecated no-op).
    """

    trt: Any
    onnx_path: Path
    plan: TensorRTPlan
    members: tuple[Any, ...]
    timing: Path | None


def _stoppable(run: _BuilderRun, progress: Progress) -> bytes:
    """The serialized engine, built on another thread: signals then never arrive inside the library's callbacks."""
    phases = Phases(progress)
    with ThreadPoolExecutor(1, "tensorrt") as thread:
        running = thread.submit(_serialized, run, phases)
        try:
            return running.result()
        except KeyboardInterrupt:
            phases.stop()
            progress("stopping after TensorRT's current step", None)
            raise


def _serialized(run: _BuilderRun, phases: Phases) -> bytes:
    """The engine, with nothing of the library left alive.

    An exception must not keep a builder in its frames: freed by the garbage collector during a callback of another
    one, it would wait for a lock that its own thread holds.
    """
    try:
        return _attempt(run, phases)
    except Exception as error:
        traceback.clear_frames(error.__traceback__)
        raise


def _attempt(run: _BuilderRun, phases: Phases) -> bytes:
    trt, problems = run.trt, Problems()
    log = logger(trt, problems)
    try:
        builder = trt.Builder(log)
    except Exception as error:  # the binding raises TypeError if the library returns no builder
        raise ExportError(f"TensorRT cannot create a builder: {problems.reason}") from error
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)  # owns the weights: must live as long as the network
    if not parser.parse_from_file(str(run.onnx_path)):
        raise ExportError(f"TensorRT does not support: {', '.join(unsupported_nodes(parser)) or problems.reason}")
    config = builder.create_builder_config()
    config.progress_monitor = watch = monitor(trt, phases)
    set_flags(trt, config, run.plan.precision)
    _add_profiles(builder, config, run.plan, problems)
    if run.members:
        config.num_compute_capabilities = len(run.members)
        for index, capability in enumerate(run.members):
            config.set_compute_capability(capability, index)
    if run.timing:
        _load_timings(config, run.timing)
    serialized = builder.build_serialized_network(network, config)
    del watch  # the library holds no reference to it
    if phases.failure:
        raise phases.failure
    if serialized is None:
        raise ExportError(f"TensorRT did not build the engine: {problems.reason}")
    if problems.contradiction:
        raise ExportError(f"--profile: the network cannot compute these shapes: {problems.contradiction}")
    if run.timing:
        write(run.timing, bytes(config.get_timing_cache().serialize()))
    return bytes(serialized)


def _strongly_typed(trt: Any) -> int:
    """Flags for a network whose precision is the graph's: a flag that newer libraries may no longer have."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _add_profiles(builder: Any, config: Any, plan: TensorRTPlan, problems: Problems) -> None:
    for profile in plan.profiles:
        ranges = builder.create_optimization_profile()
        for name, shapes in profile.items():
            ranges.set_shape(name, shapes.min, shapes.opt, shapes.max)
        if config.add_optimization_profile(ranges) < 0:
            raise ExportError(f"--profile: TensorRT refuses it: {problems.reason}")


def _load_timings(config: Any, path: Path) -> None:
    """Has the builder reuse the kernel timings in `path`; an unreadable file counts as none."""
    kept = config.create_timing_cache(path.read_bytes()) if path.is_file() else None
    if kept is None or not config.set_timing_cache(kept, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
