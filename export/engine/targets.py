"""The GPUs that an engine is built for, by compute capability ("8.9")."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from artifact.tensorrt import BF16_SINCE
from export.errors import ExportError

CURRENT = "current"


def capabilities(
    variant: str, asked: Sequence[str], precision: str, trt: Any, at_hand: Callable[[], str]
) -> tuple[str, ...]:
    """What the engine is built for, in rising order; none: a portable engine.

    `current` and classic TensorRT mean the GPU at hand, by its number.

    Raises:
        ExportError: a target that the variant does not build for, or without bfloat16 where that is asked.
    """
    if variant == "classic":
        found = _classic(asked, at_hand)
    elif CURRENT in asked:
        found = _current(asked, at_hand)
    else:
        found = _known(asked, members(trt))
    for capability in found:
        if precision == "bf16" and _number(capability) < BF16_SINCE:
            raise ExportError(f"--precision bf16: a GPU of compute capability {capability} has none; it begins at 8.0")
    return found


def members(trt: Any) -> Mapping[str, Any]:
    """Compute capability -> the library's member for it."""
    named = {re.fullmatch(r"SM(\d+)(\d)", name): member for name, member in trt.ComputeCapability.__members__.items()}
    return {f"{match[1]}.{match[2]}": member for match, member in named.items() if match}


def _classic(asked: Sequence[str], at_hand: Callable[[], str]) -> tuple[str, ...]:
    if any(capability != CURRENT for capability in asked):
        raise ExportError(
            f"--compute-capability {','.join(asked)}: classic TensorRT times kernels on the GPU it builds for and "
            "takes no other; leave the option out on that GPU, or use --tensorrt rtx"
        )
    return (at_hand(),)


def _current(asked: Sequence[str], at_hand: Callable[[], str]) -> tuple[str, ...]:
    if len(asked) > 1:
        raise ExportError(f"--compute-capability {','.join(asked)}: {CURRENT} stands alone")
    return (at_hand(),)


def _known(asked: Sequence[str], known: Mapping[str, Any]) -> tuple[str, ...]:
    for capability in asked:
        if capability not in known:
            choices = ", ".join(sorted(known, key=_number))
            raise ExportError(f"--compute-capability {capability}: this library builds for {choices}, or {CURRENT}")
    return tuple(sorted(set(asked), key=_number))


def _number(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split("."))
