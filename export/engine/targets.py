"""The GPUs that an engine is built for, by compute capability ("8.9")."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from artifact.tensorrt import BF16_SINCE
from export.errors import ExportError

CURRENT = "current"


def target_capabilities(
    variant: str, requested: Sequence[str], precision: str, trt: Any, local: Callable[[], str]
) -> tuple[str, ...]:
    """What the engine is built for, in rising order; none: a portable engine.

    For `current`, and always for classic TensorRT, this is the local GPU's compute capability.

    Args:
        variant: "rtx" or "classic".
        requested: as given to `--compute-capability`.
        trt: TensorRT's module.
        local: queries the local GPU's compute capability.

    Raises:
        ExportError: a target is one that the variant does not build for, or does not run on, or that has no bf16 and
            precision is bf16.
    """
    found: tuple[str, ...]
    if variant == "classic":
        if any(capability != CURRENT for capability in requested):
            raise ExportError(
                f"--compute-capability {','.join(requested)}: classic TensorRT builds only for the local GPU, on which "
                "it times kernels; leave the option out, or use --tensorrt rtx"
            )
        found = (local(),)
    elif CURRENT in requested:
        if len(requested) > 1:
            raise ExportError(f"--compute-capability {','.join(requested)}: {CURRENT} cannot be combined with others")
        found = (_require_supported(local(), capability_members(trt)),)
    else:
        found = _require_known(requested, capability_members(trt))
    for capability in found:
        if precision == "bf16" and _number(capability) < BF16_SINCE:
            since = ".".join(map(str, BF16_SINCE))
            raise ExportError(
                f"--precision bf16: compute capability {capability} does not support it; {since} and later do"
            )
    return found


def capability_members(trt: Any) -> Mapping[str, Any]:
    """Compute capability -> the library's enum member for it."""
    named = {re.fullmatch(r"SM(\d+)(\d)", name): member for name, member in trt.ComputeCapability.__members__.items()}
    return {f"{match[1]}.{match[2]}": member for match, member in named.items() if match}


def _require_known(requested: Sequence[str], known: Mapping[str, Any]) -> tuple[str, ...]:
    for capability in requested:
        if capability not in known:
            raise ExportError(
                f"--compute-capability {capability}: this library builds for {_listed(known)}, or {CURRENT}"
            )
    return tuple(sorted(set(requested), key=_number))


def _require_supported(capability: str, known: Mapping[str, Any]) -> str:
    """The local GPU's, if engines run on it: it is listed, or newer than all that are.

    TensorRT for RTX itself builds for any local GPU; only reading the engine fails.
    """
    if capability not in known and _number(capability) < max(map(_number, known)):
        raise ExportError(
            f"--compute-capability {CURRENT}: the local GPU is {capability}; TensorRT for RTX supports "
            f"{_listed(known)} and newer. Use --tensorrt classic, or leave --tensorrt out: the server runs the graph"
        )
    return capability


def _listed(known: Iterable[str]) -> str:
    return ", ".join(sorted(known, key=_number))


def _number(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split("."))
