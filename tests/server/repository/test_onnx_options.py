"""How graphs run on a GPU, as far as that can be said without one; and what config.pbtxt asks, in Triton's words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import ONNX, ONNX_FP32
from artifact.shapes import Profile
from artifact.spec import ShapeRange, Spec
from server.engines.base import DeviceId
from server.engines.onnx.session import CPU_PROVIDER, CUDA_PROVIDER, TENSORRT_PROVIDER, Provider
from server.environment import read_settings
from server.errors import NotServing, StartError
from server.repository import onnx_options
from server.repository.accelerators import Accelerator, read_accelerator
from server.repository.model_version import ModelVersion
from server.repository.onnx_options import OnnxFactory
from tests.server.conftest import HeldEngine, write_tiny
from tests.server.graphs import write_styled, write_translator

GPU = DeviceId("cuda", 1)


class GivenEngine(HeldEngine):
    """In place of an engine on a GPU: what it was given."""

    def __init__(
        self,
        path: Path,
        providers: Sequence[Provider],
        max_batch_size: int,
        profile: Profile | None = None,
        sizes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.max_batch_size, self.profile, self.sizes = max_batch_size, profile, sizes
        self.providers = [name for name, _ in providers]
        self.options = dict(providers)


class Open:
    """Opens graphs of `root` on a GPU, with an ONNX Runtime that has `providers`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.providers = {CPU_PROVIDER, CUDA_PROVIDER, TENSORRT_PROVIDER}

    def __call__(
        self,
        model: str,
        file_name: str = ONNX,
        spec: Spec | None = None,
        config: str = "max_batch_size: 6",
        is_spare: bool = False,
        **settings: Any,
    ) -> tuple[GivenEngine, str]:
        given = read_settings(repository=self.root, engine_cache=self.root / "cache", **settings)
        version = ModelVersion(model, 1, self.root / model / "1", text_format.Parse(config, ModelConfig()), spec)
        engine, note = OnnxFactory(given, 1, 1).open(version, file_name, GPU, batched=True, is_spare=is_spare)
        assert isinstance(engine, GivenEngine)
        return engine, note


@pytest.fixture
def open_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """`tiny`, a graph without a manifest, on a GPU that is not there."""
    write_tiny(tmp_path, "tiny")
    opener = Open(tmp_path)

    def require(name: str, needed_by: str) -> None:
        if name not in opener.providers:
            raise StartError(f"{needed_by}: no {name}")

    monkeypatch.setattr(onnx_options, "OnnxGpuEngine", GivenEngine)
    monkeypatch.setattr(onnx_options, "has_cuda", lambda: CUDA_PROVIDER in opener.providers)
    monkeypatch.setattr(onnx_options, "require_provider", require)
    return opener


def accelerated(precision: str = "") -> str:
    parameters = f'parameters {{ key: "precision_mode" value: "{precision}" }}' if precision else ""
    entry = f'gpu_execution_accelerator {{ name: "tensorrt" {parameters} }}'
    return f"max_batch_size: 6 optimization {{ execution_accelerators {{ {entry} }} }}"


def test_the_cuda_provider_has_a_session_for_each_size_and_the_settings_limits(open_graph: Open) -> None:
    engine, note = open_graph("tiny", gpu_memory_bytes=1 << 30, conv_search="default")
    assert (engine.providers, note) == ([CUDA_PROVIDER, CPU_PROVIDER], "")
    assert (engine.max_batch_size, engine.sizes, engine.profile) == (6, (1, 2, 4, 6), None)
    options = engine.options[CUDA_PROVIDER]
    assert options["device_id"] == "1"
    assert options["gpu_mem_limit"] == str(1 << 30)
    assert options["cudnn_conv_algo_search"] == "DEFAULT"


def test_a_spare_engine_has_one_session_no_search_and_no_tensorrt(open_graph: Open) -> None:
    spec = write_styled(open_graph.root, "m")
    spare, note = open_graph("m", ONNX_FP32, spec, accelerated(), is_spare=True)
    usual, _ = open_graph("m", spec=spec)
    assert (spare.providers, spare.sizes, note) == ([CUDA_PROVIDER, CPU_PROVIDER], (), "")
    assert spare.options[CUDA_PROVIDER]["cudnn_conv_algo_search"] == "HEURISTIC"
    assert usual.sizes == (1, 2, 4, 6)
    assert usual.options[CUDA_PROVIDER]["cudnn_conv_algo_search"] == "EXHAUSTIVE"


def test_the_tensorrt_provider_has_a_profile_and_a_folder_for_what_it_builds(open_graph: Open) -> None:
    engine, note = open_graph("tiny", config=accelerated("FP16"))
    assert engine.providers == [TENSORRT_PROVIDER, CUDA_PROVIDER, CPU_PROVIDER]
    assert (engine.profile, engine.sizes, note) == ({"latent": ShapeRange((1, 4), (6, 4), (6, 4))}, (), "")
    folder = Path(engine.options[TENSORRT_PROVIDER]["trt_engine_cache_path"])
    assert folder.is_dir()
    assert folder.parent == open_graph.root / "cache" / "onnxruntime"
    assert "-fp16-" in folder.name
    other, _ = open_graph("tiny", engine="onnx-tensorrt")
    assert other.providers == engine.providers, "the setting requests it as well"
    assert other.options[TENSORRT_PROVIDER]["trt_engine_cache_path"] != str(folder), "another precision, another engine"


def test_a_graph_of_free_sizes_without_tiles_keeps_to_the_cuda_provider(open_graph: Open) -> None:
    spec = write_translator(open_graph.root, "t")
    engine, note = open_graph("t", spec=spec, engine="onnx-tensorrt")
    assert engine.providers == [CUDA_PROVIDER, CPU_PROVIDER]
    assert note == "model.onnx runs without TensorRT: its sizes are free and it has no tile, so it has no profile"


def test_without_the_provider_the_accelerator_is_left_out_with_a_note(open_graph: Open) -> None:
    open_graph.providers.remove(TENSORRT_PROVIDER)
    engine, note = open_graph("tiny", config=accelerated())
    assert engine.providers == [CUDA_PROVIDER, CPU_PROVIDER]
    assert note == f"model.onnx runs without TensorRT: config.pbtxt requests TensorRT: no {TENSORRT_PROVIDER}"
    with pytest.raises(StartError, match="--engine onnx-tensorrt: no Tensorrt"):
        open_graph("tiny", engine="onnx-tensorrt")


def test_a_cache_that_cannot_be_written_is_one_line(open_graph: Open) -> None:
    (open_graph.root / "cache").write_text("a file")
    with pytest.raises(StartError, match="--engine-cache sets where engines are kept"):
        open_graph("tiny", engine="onnx-tensorrt")
    _, note = open_graph("tiny", config=accelerated())
    assert "--engine-cache sets where engines are kept" in note


def test_inputs_come_from_the_manifest_or_else_from_the_file(open_graph: Open) -> None:
    spec = write_styled(open_graph.root, "m")
    (open_graph.root / "m" / "1" / ONNX).unlink()
    assert open_graph("m", spec=spec)[0].max_batch_size == 6, "no file was needed for them"
    with pytest.raises(StartError, match="cannot open it"):
        open_graph("m")


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
    assert read_accelerator(accelerators("cuda")) is None, "what runs a graph on a GPU anyway"
    both = accelerators("cuda")
    both.MergeFrom(accelerators("tensorrt", asked))
    assert read_accelerator(both) == Accelerator("fp16", 64)


@pytest.mark.parametrize(
    ("name", "key", "value", "reason"),
    [
        ("openvino", "", "", "gpu_execution_accelerator 'openvino' is not supported"),
        ("tensorrt", "precision_mode", "INT8", "precision_mode 'INT8' is not supported; FP32, FP16 are"),
        ("tensorrt", "max_workspace_size_bytes", "1g", "max_workspace_size_bytes '1g' is not a number of bytes"),
    ],
)
def test_what_an_accelerator_cannot_be_is_named(name: str, key: str, value: str, reason: str) -> None:
    parameters = f'parameters {{ key: "{key}" value: "{value}" }}' if key else ""
    with pytest.raises(NotServing, match=reason):
        read_accelerator(accelerators(name, parameters))
