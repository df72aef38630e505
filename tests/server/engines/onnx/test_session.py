"""Sessions, and what is read of a graph."""

from pathlib import Path

import onnxruntime as ort
import pytest

from artifact.spec import TensorSpec
from server.engines.onnx.cpu import OnnxCpuEngine
from server.engines.onnx.session import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    nodes_elsewhere,
    open_session,
    read_inputs,
)
from server.errors import StartError

IMAGE = TensorSpec("image", "UINT8", (-1, -1, 3))


def test_nodes_that_run_elsewhere_are_counted_by_kind(tiny: Path) -> None:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(tiny, options, providers=[CPU_PROVIDER])
    assert nodes_elsewhere(session, CPU_PROVIDER) == ""
    assert nodes_elsewhere(session, CUDA_PROVIDER) == ", ".join(
        f"1 {kind} ({CPU_PROVIDER})" for kind in ("Cast", "Clip", "MatMul", "Reshape")
    )
    assert nodes_elsewhere(open_session(tiny, [(CPU_PROVIDER, {})], 1), CUDA_PROVIDER) == "", "nothing was recorded"


def test_a_damaged_graph_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    for opening in (lambda: OnnxCpuEngine(path, 1, 1, batched=True), lambda: read_inputs(path, batched=True)):
        with pytest.raises(StartError, match="ONNX Runtime cannot open it") as caught:
            opening()
        assert "\n" not in str(caught.value)


def test_a_graph_is_read_without_being_run(translator: Path) -> None:
    assert read_inputs(translator, batched=True) == (IMAGE,)
    assert read_inputs(translator, batched=False) == (TensorSpec("image", "UINT8", (-1, -1, -1, 3)),)
