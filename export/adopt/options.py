"""What the options of `ganserve export` for ONNX graphs say, as text -> numbers."""

from collections.abc import Sequence

import numpy as np

from export.adopt.roles import Range
from export.errors import ExportError


def parse_range(option: str, text: str) -> Range:
    """LOW,HIGH.

    Raises:
        ExportError: not two numbers, the first one smaller.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ExportError(f"{option} {text}: must be LOW,HIGH, such as -1,1") from None
    if not (np.isfinite([low, high]).all() and low < high):
        raise ExportError(f"{option} {text}: must be two finite numbers, the lower one first")
    return low, high


def parse_numbers(option: str, text: str) -> tuple[float, ...]:
    """One number, or one for each channel.

    Raises:
        ExportError: other than that.
    """
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ExportError(f"{option} {text}: must be numbers, such as 0.485,0.456,0.406") from None
    if not np.isfinite(found).all() or (option == "--std" and min(found) <= 0):
        raise ExportError(f"{option} {text}: must be finite{' and above 0' if option == '--std' else ''}")
    return found


def parse_fixed(texts: Sequence[str]) -> dict[str, float]:
    """NAME=NUMBER for each input.

    Raises:
        ExportError: other than that, or twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        if not name or not np.isfinite(value) or name in found:
            raise ExportError(f"--fix {text}: must be NAME=NUMBER, once for each input")
        found[name] = value
    return found


def parse_channel_order(text: str) -> bool:
    """Whether blue is first.

    Raises:
        ExportError: neither RGB nor BGR.
    """
    if text.upper() not in ("RGB", "BGR"):
        raise ExportError(f"--channel-order {text}: must be RGB or BGR")
    return text.upper() == "BGR"
