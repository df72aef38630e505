"""ONNX graphs as OpenVINO reads them, and what is known of them before they are compiled."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openvino
from openvino.frontend import FrontEndManager

from artifact.spec import TensorSpec
from server.engines.openvino.transposed import rewrite_transposed
from server.engines.openvino.unchecked import find_unchecked
from server.errors import StartError

# OpenVINO's element types by the names that requests use. It computes FP64 in float32, so that is not among them.
KSERVE_OF_OPENVINO: Mapping[str, str] = {
    "boolean": "BOOL",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "f16": "FP16",
    "f32": "FP32",
}
MAX_ERROR = 300


@functools.cache
def core() -> openvino.Core:
    """OpenVINO's entry point: one for the process, since each loads the devices anew."""
    return openvino.Core()


def read_graph(path: Path) -> openvino.Model:
    """The graph in the file, its transposed convolutions rewritten.

    Raises:
        StartError: OpenVINO cannot read it, has no such operator, or does not check what requests put into it.
    """
    try:
        # Not Core.read_model, which shows the file to every front end, those for pickles included. Without mapping the
        # file's weights into memory, where another process that truncates the file would end this one.
        frontend = FrontEndManager().load_by_framework("onnx")
        model = frontend.convert(frontend.load(str(path), False))
    except Exception as error:  # OpenVINO's exceptions share no public base
        raise StartError(f"{path}: OpenVINO cannot read it: {one_line(error)}") from error
    if unchecked := find_unchecked(model):
        raise StartError(f"{path}: {unchecked}, which OpenVINO does not check; --engine onnx does")
    rewrite_transposed(model)
    return model


def specs(ports: Sequence[Any], batched: bool) -> tuple[TensorSpec, ...]:
    """A graph's inputs or outputs, without the batch axis if `batched`.

    Raises:
        StartError: one is of a type that OpenVINO does not compute in, or has an unknown number of axes.
    """
    return tuple(_spec(port, batched) for port in ports)


def _spec(port: Any, batched: bool) -> TensorSpec:
    name, kind, shape = port.any_name, port.element_type.get_type_name(), port.partial_shape
    if kind not in KSERVE_OF_OPENVINO:
        raise StartError(f"{name!r} is {kind}, which OpenVINO does not run; --engine onnx does")
    if shape.rank.is_dynamic:
        raise StartError(f"{name!r} has an unknown number of axes, which OpenVINO does not run; --engine onnx does")
    axes = tuple(axis.get_length() if axis.is_static else -1 for axis in shape)
    return TensorSpec(name, KSERVE_OF_OPENVINO[kind], axes[1 if batched else 0 :])


def one_line(error: Exception) -> str:
    """OpenVINO's text without the lines that say where in its source it was raised."""
    lines = (line.strip() for line in str(error).splitlines())
    said = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    return " ".join(said)[:MAX_ERROR] or type(error).__name__
