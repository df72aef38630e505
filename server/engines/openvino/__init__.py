"""Graphs in OpenVINO on the CPU. The package may not be installed: ask `available` before importing the engine.

OpenVINO's package imports its model converter, which writes an id into the user's home folder and sends usage data to
Google Analytics. Nothing here needs it, and importing the rest takes a third of the time without it.
"""

import importlib.util
import sys
from typing import Any, cast

from server.engines.processor import read_processor
from server.environment import instruction_set_cap

# Read by `import openvino`, which this package's modules do: it goes on without a converter that cannot be imported.
cast(dict[str, Any], sys.modules).setdefault("openvino.tools.ovc", None)


def available() -> bool:
    """Whether OpenVINO is installed. Imports nothing."""
    return importlib.util.find_spec("openvino") is not None


def bf16_supported() -> bool:
    """Whether the processor multiplies bfloat16 (AVX512-BF16 or AMX), and OpenVINO may. Imports nothing."""
    return read_processor().computes_bf16(instruction_set_cap())
