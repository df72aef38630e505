"""TensorRT as it is installed: `rtx` (TensorRT for RTX) or `classic`. Both offer the same Python API."""

import ctypes
import importlib
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from server.errors import StartError

# Flavour of a plan -> what it is called, and what installs it.
NAMES: Mapping[str, str] = {"rtx": "TensorRT for RTX", "classic": "TensorRT"}
_INSTALL: Mapping[str, str] = {
    "rtx": "install 'ganserve[tensorrt-rtx]'",
    "classic": "install 'ganserve[tensorrt]' (its libraries come from NVIDIA's package index, not from PyPI)",
}

_loading = threading.Lock()
_loaded: dict[str, ModuleType] = {}


def load(flavour: str) -> ModuleType:
    """TensorRT's Python module for `rtx` or `classic`; loaded once, from any thread.

    Raises:
        StartError: no such flavour, or it is not installed or cannot be loaded; names the extra that brings it.
    """
    if flavour not in NAMES:
        raise StartError(f"TensorRT has the flavours {' and '.join(NAMES)}, not {flavour!r}")
    with _loading:
        if flavour not in _loaded:
            _loaded[flavour] = _import(flavour)
        return _loaded[flavour]


def version(flavour: str) -> str:
    """The installed library's version, as "1.7.1.116".

    Raises:
        StartError: see `load`.
    """
    return str(load(flavour).__version__)


def _import(flavour: str) -> ModuleType:
    try:
        return _import_rtx() if flavour == "rtx" else importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        raise StartError(f"{NAMES[flavour]} is not installed (no module {error.name}): {_INSTALL[flavour]}") from error
    except (ImportError, OSError, AttributeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise StartError(f"{NAMES[flavour]} cannot be loaded ({first_line}): {_INSTALL[flavour]}") from error


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
