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
from export.engine.builder_log import Complaints, Phases, logger, monitor, refusals, set_flags
from export.engine.cache import PlanCache, write
from export.engine.targets import CURRENT, capabilities, members
from export.errors import ExportError
from export.progress import Progress, silent
from models.zoo.fetch import default_cache
from server.errors import StartError


def build(
    onnx_path: Path,
    plan_path: Path,
    *,
    variant: str,
    precision: str,
    profiles: Sequence[Mapping[str, ShapeRange]],
    compute_capabilities: Sequence[str] = (),
    cache_dir: Path | None = None,
    progress: Progress = silent,
    library: Any = None,
    cuda: Any = None,
) -> TensorRTPlan:
    """Writes the engine of a graph to `plan_path` and returns what it was built from, with and for.

    The same engine is not built twice: it is kept in `cache_dir` (the user's, where None). Ctrl-C stops the builder at
    its next step.

    Args:
        variant: "rtx" or "classic".
        precision: of the graph: fp32, fp16 or bf16.
        compute_capabilities: GPUs to build for, as "8.9", or "current". None: for rtx a portable engine,
            for classic one for the GPU at hand.
        library: TensorRT's module, where it is not to be the installed one.
        cuda: `cuda.bindings.runtime`, likewise.

    Raises:
        ExportError: the library is missing, or refuses the target, the graph or a profile; nothing was written.
    """
    trt = library or installed_library(variant)
    targets = capabilities(variant, compute_capabilities, precision, trt, lambda: gpu_at_hand(cuda))
    version = str(trt.__version__)
    plan = TensorRTPlan(variant, version, targets, precision, sha256_of(onnx_path), tuple(profiles))
    cache = PlanCache(cache_dir or default_cache()) if _stands_alone(onnx_path) else None
    kept = cache.find(plan) if cache else None
    if kept:
        progress("the engine was built before: taken from the cache")
        write(plan_path, kept.read_bytes())
        return plan
    progress(f"building the engine with {tensorrt.NAMES[variant]} {version}")
    timing = cache.timing(plan) if cache and variant == "classic" else None
    wanted = [trt.ComputeCapability.CURRENT] if CURRENT in compute_capabilities else [members(trt)[t] for t in targets]
    work = _Work(trt, onnx_path, plan, () if variant == "classic" else tuple(wanted), timing)
    write(plan_path, _stoppable(work, progress))
    if cache:
        try:
            cache.keep(plan, plan_path)
        except OSError as error:
            progress(f"the engine is not kept in the cache: {error}")
    return plan


def gpu_at_hand(cuda: Any = None) -> str:
    """The compute capability of the first GPU, as "8.9".

    Raises:
        ExportError: there is none, or no driver for it.
    """
    try:
        cuda = cuda or importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise ExportError(f"the GPU at hand cannot be asked ({error}): install 'ganserve[tensorrt-rtx]'") from None
    numbers = []
    for attribute in ("cudaDevAttrComputeCapabilityMajor", "cudaDevAttrComputeCapabilityMinor"):
        code, number = cuda.cudaDeviceGetAttribute(getattr(cuda.cudaDeviceAttr, attribute), 0)
        if code != cuda.cudaError_t.cudaSuccess:
            words = cuda.cudaGetErrorString(code)[1].decode()
            raise ExportError(f"building for the GPU at hand needs a GPU and its driver: {words}")
        numbers.append(str(number))
    return ".".join(numbers)


def installed_library(variant: str) -> Any:
    """TensorRT's module.

    Raises:
        ExportError: it is not installed or cannot be loaded; names the extra that brings it.
    """
    try:
        return tensorrt.load(variant)
    except StartError as error:
        raise ExportError(str(error)) from None


def _stands_alone(onnx_path: Path) -> bool:
    """Whether the graph's file holds its weights, so that its sha256 says everything."""
    try:
        graph = onnx.load(onnx_path, load_external_data=False).graph
    except DecodeError:
        raise ExportError(f"{onnx_path.name} is no ONNX graph") from None
    return not any(uses_external_data(tensor) for tensor in graph.initializer)


@dataclass(frozen=True)
class _Work:
    """What one run of a builder needs. `wanted`: the library's members for the GPUs to build for."""

    trt: Any
    onnx_path: Path
    plan: TensorRTPlan
    wanted: tuple[Any, ...]
    timing: Path | None  # classic only: TensorRT for RTX times nothing, its cache is a deprecated no-op


def _stoppable(work: _Work, progress: Progress) -> bytes:
    """The serialized engine, built on another thread: signals then never arrive inside the library's callbacks."""
    phases = Phases(progress)
    with ThreadPoolExecutor(1, "tensorrt") as thread:
        running = thread.submit(_serialized, work, phases)
        try:
            return running.result()
        except KeyboardInterrupt:
            phases.stop()
            progress("stopping: TensorRT ends the step that it is at")
            raise


def _serialized(work: _Work, phases: Phases) -> bytes:
    """The engine, with nothing of the library left alive.

    An exception must not keep a builder in its frames: freed by the garbage collector during a callback of another
    one, it would wait for a lock that its own thread holds.
    """
    try:
        return _attempt(work, phases)
    except Exception as error:
        traceback.clear_frames(error.__traceback__)
        raise


def _attempt(work: _Work, phases: Phases) -> bytes:
    trt, complaints = work.trt, Complaints()
    log = logger(trt, complaints)
    try:
        builder = trt.Builder(log)
    except Exception as error:  # the binding raises TypeError where the library gives no builder
        raise ExportError(f"TensorRT gives no builder: {complaints.reason}") from error
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)  # owns the weights: must live as long as the network
    if not parser.parse_from_file(str(work.onnx_path)):
        raise ExportError(f"TensorRT cannot take: {', '.join(refusals(parser)) or complaints.reason}")
    config = builder.create_builder_config()
    config.progress_monitor = watch = monitor(trt, phases)
    set_flags(trt, config, work.plan.precision)
    _add_profiles(builder, config, work.plan, complaints)
    if work.wanted:
        config.num_compute_capabilities = len(work.wanted)
        for index, capability in enumerate(work.wanted):
            config.set_compute_capability(capability, index)
    if work.timing:
        _take_timings(config, work.timing)
    serialized = builder.build_serialized_network(network, config)
    del watch  # the library holds no reference to it
    if phases.failure:
        raise phases.failure
    if serialized is None:
        raise ExportError(f"TensorRT did not build the engine: {complaints.reason}")
    if complaints.contradiction:
        raise ExportError(f"--profile: the network cannot compute what it asks: {complaints.contradiction}")
    if work.timing:
        write(work.timing, bytes(config.get_timing_cache().serialize()))
    return bytes(serialized)


def _strongly_typed(trt: Any) -> int:
    """Flags for a network whose precision is the graph's: a flag that newer libraries may no longer have."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _add_profiles(builder: Any, config: Any, plan: TensorRTPlan, complaints: Complaints) -> None:
    for profile in plan.profiles:
        ranges = builder.create_optimization_profile()
        for name, shapes in profile.items():
            ranges.set_shape(name, shapes.min, shapes.opt, shapes.max)
        if config.add_optimization_profile(ranges) < 0:
            raise ExportError(f"--profile: TensorRT refuses it: {complaints.reason}")


def _take_timings(config: Any, path: Path) -> None:
    """Has the builder go on from what was timed before; what it cannot read counts as nothing."""
    kept = config.create_timing_cache(path.read_bytes()) if path.is_file() else None
    if kept is None or not config.set_timing_cache(kept, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
