"""float16 inside the graph, the same tensors at its borders."""

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from export.errors import ExportError
from export.to_onnx import quiet

# The steps from the network's range to levels stay float32: a float16 near 255 is a multiple of 1/8.
LEVELS = ("Clip", "Round")


def to_half(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with float16 weights and activations; BatchNorm is folded already, so its statistics lose nothing.

    Raises:
        ExportError: a weight does not fit float16, or the converted graph is not valid.
    """
    try:
        with quiet():
            half: onnx.ModelProto = convert_float_to_float16(proto, keep_io_types=True, node_block_list=_levels(proto))
        onnx.checker.check_model(half, full_check=True)
    except Exception as error:  # the converter raises many kinds
        raise ExportError(f"float16 conversion failed: {str(error).splitlines()[0]}; try --precision fp32") from error
    return half


def _levels(proto: onnx.ModelProto) -> list[str]:
    """Names of the nodes from the last Mul to Round, and of the first casts: what wrapping added."""
    names = [node.name for node in proto.graph.node if node.op_type in LEVELS]
    producers = {output: node for node in proto.graph.node for output in node.output}
    for node in proto.graph.node:
        if node.op_type == "Clip":
            before = producers.get(node.input[0])
            while before is not None and before.op_type in ("Mul", "Add"):
                names.append(before.name)
                before = producers.get(before.input[0])
    return names
