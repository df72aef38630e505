"""Small graphs for OpenVINO's engine."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

Node = tuple[str, list[str], str, dict[str, Any]]  # kind, inputs, output, attributes
Tensor = tuple[str, int, Sequence[str | int]]  # name, ONNX's type, axes
WriteGraph = Callable[..., Path]


@pytest.fixture
def write_graph(tmp_path: Path) -> WriteGraph:
    """`write_graph(nodes, inputs, outputs, constants)`: the file."""

    def write(
        nodes: Sequence[Node], inputs: Sequence[Tensor], outputs: Sequence[Tensor], constants: Mapping[str, Any]
    ) -> Path:
        graph = helper.make_graph(
            [helper.make_node(kind, ins, [out], **attributes) for kind, ins, out, attributes in nodes],
            "graph",
            [helper.make_tensor_value_info(*tensor) for tensor in inputs],
            [helper.make_tensor_value_info(*tensor) for tensor in outputs],
            [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
        )
        path = tmp_path / "graph.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
        return path

    return write
