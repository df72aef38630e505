"""How graphs run on a GPU, as far as that can be said without one; and what config.pbtxt asks, in Triton's words."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.spec import ShapeRange, TensorSpec
from server.engines.onnx.cpu import CPU, CUDA
from server.engines.onnx.gpu import TENSORRT
from server.errors import NotServing, StartError
from server.repository.onnx_options import Accelerator, Graph, OnnxOpening, read_accelerator
from server.settings import read_settings
from tests.server.conftest import write_tiny
from tests.server.graphs import write_styled, write_translator

UNASKED = Accelerator(None, None)


@pytest.fixture
def tiny(tmp_path: Path) -> Graph:
    """A graph without a manifest."""
    write_tiny(tmp_path, "tiny")
    return Graph(tmp_path / "tiny" / "1" / "model.onnx", None, None, True, 6)


def opening(tmp_path: Path, **settings: object) -> OnnxOpening:
    return OnnxOpening(read_settings(repository=tmp_path, engine_cache=tmp_path / "cache", **settings), 1, 1)


def test_the_cuda_provider_has_a_session_for_each_size_and_the_settings_limits(tiny: Graph, tmp_path: Path) -> None:
    way = opening(tmp_path, gpu_memory_bytes=1 << 30, conv_search="default").cuda_way(tiny, "cuda:1")
    (name, options), cpu = way.providers
    assert (name, cpu, way.sizes, way.profile) == (CUDA, (CPU, {}), (1, 2, 4, 6), None)
    assert options["device_id"] == "1"
    assert options["gpu_mem_limit"] == str(1 << 30)
    assert options["cudnn_conv_algo_search"] == "DEFAULT"


def test_a_spare_engine_takes_one_session_and_no_search(tmp_path: Path) -> None:
    spec = write_styled(tmp_path, "m")
    path = tmp_path / "m" / "1" / "model.onnx"
    spare = opening(tmp_path).cuda_way(Graph(path, spec, "fp32", True, 8, is_spare=True), "cuda:0")
    usual = opening(tmp_path).cuda_way(Graph(path, spec, "fp32", True, 8), "cuda:0")
    assert (spare.sizes, spare.providers[0][1]["cudnn_conv_algo_search"]) == ((), "HEURISTIC")
    assert (usual.sizes, usual.providers[0][1]["cudnn_conv_algo_search"]) == ((1, 2, 4, 8), "EXHAUSTIVE")


def test_the_tensorrt_provider_has_a_profile_and_a_folder_for_what_it_builds(tiny: Graph, tmp_path: Path) -> None:
    way = opening(tmp_path).tensorrt_way(tiny, "cuda:0", Accelerator("fp16", 1 << 20))
    assert [name for name, _ in way.providers] == [TENSORRT, CUDA, CPU]
    assert (way.profile, way.sizes, way.note) == ({"latent": ShapeRange((1, 4), (6, 4), (6, 4))}, (), "")
    options = way.providers[0][1]
    folder = Path(options["trt_engine_cache_path"])
    assert folder.is_dir()
    assert folder.parent == tmp_path / "cache" / "onnxruntime"
    assert "-fp16-" in folder.name
    assert options["trt_max_workspace_size"] == str(1 << 20)
    other = opening(tmp_path).tensorrt_way(tiny, "cuda:0", UNASKED)
    assert other.providers[0][1]["trt_engine_cache_path"] != str(folder), "another precision is another engine"


def test_a_graph_of_free_sizes_without_tiles_keeps_to_the_cuda_provider(tmp_path: Path) -> None:
    spec = write_translator(tmp_path, "t")
    graph = Graph(tmp_path / "t" / "1" / "model.onnx", spec, "fp32", True, 2)
    way = opening(tmp_path).tensorrt_way(graph, "cuda:0", UNASKED)
    assert [name for name, _ in way.providers] == [CUDA, CPU]
    assert way.note == "model.onnx runs without TensorRT: its sizes are free and it has no tile, so it has no profile"


def test_a_cache_that_cannot_be_written_is_one_line(tiny: Graph, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StartError, match="--engine-cache says where engines are kept"):
        opening(tmp_path).tensorrt_way(tiny, "cuda:0", UNASKED)


def test_inputs_come_from_the_manifest_or_else_from_the_file(tiny: Graph, tmp_path: Path) -> None:
    assert tiny.inputs == (TensorSpec("latent", "FP32", (4,)),)
    spec = write_styled(tmp_path, "m")
    assert Graph(tmp_path / "nowhere", spec, "fp32", True, 8).inputs == spec.inputs


def accelerators(name: str, parameters: str = "") -> ModelConfig:
    entry = f'gpu_execution_accelerator {{ name: "{name}" {parameters} }}'
    return text_format.Parse(f"optimization {{ execution_accelerators {{ {entry} }} }}", ModelConfig())


def test_tritons_way_to_ask_for_tensorrt_is_read() -> None:
    assert read_accelerator(None) is None
    assert read_accelerator(ModelConfig()) is None
    assert read_accelerator(accelerators("tensorrt")) == Accelerator(None, None)
    asked = (
        'parameters { key: "precision_mode" value: "FP16" } parameters { key: "max_workspace_size_bytes" value: "64" }'
    )
    assert read_accelerator(accelerators("tensorrt", asked)) == Accelerator("fp16", 64)


@pytest.mark.parametrize(
    ("name", "key", "value", "reason"),
    [
        ("openvino", "", "", "gpu_execution_accelerator 'openvino' is not served here"),
        ("tensorrt", "precision_mode", "INT8", "precision_mode 'INT8' is not served here; FP32, FP16 are"),
        ("tensorrt", "max_workspace_size_bytes", "1g", "max_workspace_size_bytes '1g' is not a number of bytes"),
    ],
)
def test_what_an_accelerator_cannot_be_is_named(name: str, key: str, value: str, reason: str) -> None:
    parameters = f'parameters {{ key: "{key}" value: "{value}" }}' if key else ""
    with pytest.raises(NotServing, match=reason):
        read_accelerator(accelerators(name, parameters))
