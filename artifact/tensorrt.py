"""TensorRT as it is installed: `rtx` (TensorRT for RTX) or `classic`. Both offer the same Python API."""

import ctypes
import functools
import importlib
import logging
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

# Variant of an engine -> what it is called, and what installs it.
NAMES: Mapping[str, str] = {"rtx": "TensorRT for RTX", "classic": "TensorRT"}
INSTALL: Mapping[str, str] = {
    "rtx": "install 'ganserve[tensorrt-rtx]'",
    "classic": "install 'ganserve[tensorrt]' (its libraries come from https://pypi.nvidia.com, not from PyPI)",
}
# GPUs before this one have no bfloat16.
BF16_SINCE = (8, 0)
# What TensorRT puts around its messages: its own call and number before, its own function and line after.
_PREFIX = re.compile(r"^(?:\S+: )?Error Code \d+: |^Assertion failed: [^:]*: ")
_PLACE = re.compile(r"\s*\bIn \S+ at \S+:\d+\b\.?")

log = logging.getLogger(__name__)

_loading = threading.Lock()
_loaded: dict[str, ModuleType] = {}
_errors = threading.local()  # `lines`: what TensorRT logged as errors on this thread since the last `first_error`


class TensorRTMissing(Exception):
    """TensorRT is not installed or cannot be loaded; the text names the extra that installs it."""


class TensorRTError(RuntimeError):
    """TensorRT refused something."""


def load(variant: str) -> ModuleType:
    """TensorRT's Python module for `rtx` or `classic`; loaded once, from any thread.

    Raises:
        TensorRTMissing: no such variant, or it is not installed or cannot be loaded.
    """
    if variant not in NAMES:
        raise TensorRTMissing(f"TensorRT has the variants {' and '.join(NAMES)}, not {variant!r}")
    with _loading:
        if variant not in _loaded:
            _loaded[variant] = _import(variant)
        return _loaded[variant]


@functools.cache
def logger(library: Any) -> Any:
    """The logger to pass to TensorRT's objects: one for each library, kept for good.

    TensorRT uses the first logger it was given for everything in the process and ignores those that come after.
    """
    severity = library.ILogger.Severity

    class Logger(library.ILogger):  # type: ignore[misc]  # a class of a module that is chosen at run time
        def __init__(self) -> None:
            library.ILogger.__init__(self)

        def log(self, level: Any, text: str) -> None:
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                _errors.lines = [*getattr(_errors, "lines", []), message(text)]
            elif level == severity.WARNING:
                log.info("TensorRT: %s", text)

    return Logger()


def message(text: str) -> str:
    """What TensorRT says, in one line and without the places in its own source."""
    return _PLACE.sub("", _PREFIX.sub("", " ".join(text.split()))).strip().rstrip(".")


def first_error() -> str:
    """The first error that TensorRT logged on this thread since the last call, in one line; "" if there was none."""
    lines = getattr(_errors, "lines", [])
    _errors.lines = []
    return lines[0] if lines else ""


def refused(what: str) -> TensorRTError:
    """The error to raise when TensorRT returned a failure: with the first error that it logged on this thread."""
    return TensorRTError(f"{what}: {first_error() or 'TensorRT gave no reason'}")


def _import(variant: str) -> ModuleType:
    try:
        return _import_rtx() if variant == "rtx" else importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        raise TensorRTMissing(
            f"{NAMES[variant]} is not installed (no module {error.name}): {INSTALL[variant]}"
        ) from error
    except (ImportError, OSError, AttributeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise TensorRTMissing(f"{NAMES[variant]} cannot be loaded ({first_line}): {INSTALL[variant]}") from error


def _import_rtx() -> ModuleType:
    try:
        libraries = importlib.import_module("tensorrt_rtx_libs")
    except ModuleNotFoundError:
        # NVIDIA's archive has one wheel of this name, which finds the libraries on the loader's path.
        return importlib.import_module("tensorrt_rtx")
    if libraries.__file__ is None:
        raise ImportError("the package tensorrt_rtx_libs is empty")
    # The bindings look these up by symbol: they must be global before the bindings are imported.
    for pattern in ("libtensorrt_rtx.so.*", "libtensorrt_onnxparser_rtx.so.*"):
        for library in sorted(Path(libraries.__file__).parent.glob(pattern)):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return importlib.import_module("tensorrt_rtx_bindings")
