"""Why a TensorRT engine cannot be served here: pure functions that return one line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from artifact.repository import PLAN
from artifact.spec import TensorRTPlan
from artifact.tensorrt import BF16_SINCE, INSTALL, NAMES

# Bits of TensorRT for RTX's own diagnosis -> our text.
_DIAGNOSES: Mapping[str, str] = {
    "VERSION_MISMATCH": "it was built by another version",
    "UNSUPPORTED_CC": "it was not built for this GPU",
    "OLD_CUDA_DRIVER": "the CUDA driver is too old for it",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "MALFORMED_ENGINE": "it is damaged, or not an engine of this library",
    "CUDA_ERROR": "CUDA is not installed correctly",
}


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver describes it; `compute_capability` as "8.9"."""

    name: str
    compute_capability: str
    index: int
    memory_bytes: int


def refusal(plan: TensorRTPlan, gpu: Gpu, version: str | None, wanted_precision: str | None) -> str:
    """Why `gpu` cannot run the engine that `plan` describes; "" if it can.

    `version`: of the installed library of the plan's variant, None if it is missing. `wanted_precision`: what
    config.pbtxt requires (fp32, FP16 ...), None for any.
    """
    return (
        _other_library(plan, version)
        or _other_gpu(plan, gpu)
        or _other_precision(plan, wanted_precision)
        or _without_bf16(plan, gpu)
    )


def _other_library(plan: TensorRTPlan, version: str | None) -> str:
    name = NAMES.get(plan.variant)
    if name is None:
        return f"{PLAN} is of the variant {plan.variant!r}; this version knows {' and '.join(NAMES)}"
    if version is None:
        return f"{PLAN} needs {name}, which is not installed: {INSTALL[plan.variant]}"
    # NVIDIA: "engines are not compatible between different releases", of either library; builds of one release are.
    if _release(plan.version) != _release(version):
        return f"{PLAN} was built by {name} {plan.version}, {version} is installed"
    return ""


def _other_gpu(plan: TensorRTPlan, gpu: Gpu) -> str:
    if not plan.compute_capabilities or gpu.compute_capability in plan.compute_capabilities:
        return ""
    built_for = ", ".join(plan.compute_capabilities)
    return f"{PLAN} was built for {built_for}; this GPU ({gpu.name}) is {gpu.compute_capability}"


def _other_precision(plan: TensorRTPlan, wanted_precision: str | None) -> str:
    if wanted_precision is None or wanted_precision.lower() == plan.precision:
        return ""
    return f"{PLAN} is {plan.precision}; config.pbtxt's precision_mode requires {wanted_precision.upper()}"


def _without_bf16(plan: TensorRTPlan, gpu: Gpu) -> str:
    major, _, minor = gpu.compute_capability.partition(".")
    if plan.precision != "bf16" or (int(major), int(minor)) >= BF16_SINCE:
        return ""
    since = ".".join(str(part) for part in BF16_SINCE)
    return f"{PLAN} is bf16, which needs {since}; this GPU ({gpu.name}) is {gpu.compute_capability}"


def diagnosis(library: Any, bits: int) -> str:
    """TensorRT for RTX's diagnosis of an engine as text; "" if it names no cause."""
    named = library.EngineInvalidityDiagnostics.__members__.items()
    return ", ".join(_DIAGNOSES.get(name, name) for name, bit in named if bits & int(bit))


def _release(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:3])
