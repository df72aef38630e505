"""The GPUs that an engine is built for, by compute capability ("8.9")."""

import re
from collections.abc import Callable, Mapping, Sequence
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
        ExportError: the variant does not build for a target, or precision is bf16 and a target does not support it.
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
        found = (local(),)
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
            choices = ", ".join(sorted(known, key=_number))
            raise ExportError(f"--compute-capability {capability}: this library builds for {choices}, or {CURRENT}")
    return tuple(sorted(set(requested), key=_number))


def _number(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split("."))
