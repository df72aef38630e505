"""What may run a graph on the CPU: settings, config.pbtxt's parameters, and what is installed."""

import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import ONNX
from server.engines.base import CPU
from server.engines.onnx.cpu import OnnxCpuEngine
from server.engines.openvino.engine import OpenVinoCpuEngine
from server.environment import read_settings
from server.errors import NotServing, StartError
from server.repository import cpu_options
from server.repository.cpu_options import ONNX_ENGINE, CpuEngine, cpu_engines
from server.repository.engine_choice import EngineFactory
from server.repository.model_version import ModelVersion
from server.settings import Settings
from tests.server.conftest import write_tiny

OPENVINO, OPENVINO_BF16 = CpuEngine("openvino", "fp32"), CpuEngine("openvino", "bf16")


def settings_of(**given: Any) -> Settings:
    return read_settings(**{"repository": Path(), "device": "cpu", "engine": "auto", **given})


def config_of(**parameters: str) -> ModelConfig:
    texts = (f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in parameters.items())
    return text_format.Parse(" ".join(texts), ModelConfig())


@pytest.fixture(autouse=True)
def _has_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_options, "bf16_supported", lambda: True)


@pytest.mark.parametrize(
    ("engine", "precision", "expected"),
    [
        ("auto", "auto", (ONNX_ENGINE, OPENVINO, OPENVINO_BF16)),
        ("auto", "fp32", (ONNX_ENGINE, OPENVINO)),
        ("auto", "bf16", (OPENVINO_BF16,)),
        ("onnx", "auto", (ONNX_ENGINE,)),
        ("onnx", "fp32", (ONNX_ENGINE,)),
        ("openvino", "auto", (OPENVINO, OPENVINO_BF16)),
        ("openvino", "fp32", (OPENVINO,)),
        ("openvino", "bf16", (OPENVINO_BF16,)),
    ],
)
def test_the_settings_and_a_models_own_parameters_say_the_same(
    engine: str, precision: str, expected: tuple[CpuEngine, ...]
) -> None:
    assert cpu_engines(settings_of(engine=engine, cpu_precision=precision), None) == expected
    own = config_of(cpu_engine=engine, cpu_precision=precision)
    assert cpu_engines(settings_of(engine="openvino", cpu_precision="bf16"), own) == expected


def test_bf16_is_for_images_unless_it_is_requested() -> None:
    assert cpu_engines(settings_of(), None, gives_images=False) == (ONNX_ENGINE, OPENVINO)
    assert cpu_engines(settings_of(engine="openvino"), None, gives_images=False) == (OPENVINO,)
    assert cpu_engines(settings_of(cpu_precision="bf16"), None, gives_images=False) == (OPENVINO_BF16,)


def test_a_parameter_leaves_the_other_to_the_settings() -> None:
    given = settings_of(engine="openvino", cpu_precision="bf16")
    assert cpu_engines(given, config_of(cpu_precision="fp32")) == (OPENVINO,)
    assert cpu_engines(given, config_of(other="x")) == (OPENVINO_BF16,)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"cpu_engine": "tensorrt"}, "config.pbtxt: parameter cpu_engine 'tensorrt' is not supported; auto, onnx, ope"),
        ({"cpu_precision": "fp16"}, "config.pbtxt: parameter cpu_precision 'fp16' is not supported; auto, fp32, bf16"),
        ({"cpu_engine": "onnx", "cpu_precision": "bf16"}, "onnx and precision bf16 on the CPU: ONNX Runtime computes"),
    ],
)
def test_what_cannot_be_is_the_models_reason(parameters: dict[str, str], reason: str) -> None:
    with pytest.raises(NotServing, match=reason):
        cpu_engines(settings_of(), config_of(**parameters))


def test_without_openvino_everything_else_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpu_options, "available", lambda: False)
    assert cpu_engines(settings_of(), None) == (ONNX_ENGINE,)
    with pytest.raises(NotServing, match=r"engine openvino .* OpenVINO is not installed; install 'ganserve.openvino"):
        cpu_engines(settings_of(), config_of(cpu_engine="openvino"))
    for given in ({"engine": "openvino"}, {"cpu_precision": "bf16"}):
        with pytest.raises(StartError, match="OpenVINO is not installed"):
            EngineFactory(settings_of(**given), 1, 1)
    with pytest.raises(StartError, match="OpenVINO is not installed"):
        OPENVINO.open(tmp_path / ONNX, 1, 1, batched=True)


def test_an_installation_that_cannot_be_imported_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "server.engines.openvino.engine", None)
    with pytest.raises(ImportError, match=r"^OpenVINO cannot be loaded: .* server.engines.openvino.engine"):
        OPENVINO.open(tmp_path / ONNX, 1, 1, batched=True)


def test_a_processor_without_bf16_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_options, "bf16_supported", lambda: False)
    with pytest.raises(StartError, match="precision bf16 on the CPU: this processor has no bf16 instructions"):
        EngineFactory(settings_of(cpu_precision="bf16"), 1, 1)


def test_the_settings_that_contradict_each_other_end_the_start() -> None:
    with pytest.raises(StartError, match="--engine openvino runs on the CPU; --device is cuda:1"):
        EngineFactory(read_settings(repository=Path(), engine="openvino", device="cuda:1"), 1, 1)
    with pytest.raises(StartError, match="engine onnx and precision bf16 on the CPU: ONNX Runtime computes in float32"):
        EngineFactory(settings_of(engine="onnx", cpu_precision="bf16"), 1, 1)


def test_the_engine_that_was_asked_for_opens_the_graph(tmp_path: Path) -> None:
    write_tiny(tmp_path, "tiny")

    def opened(config: ModelConfig | None = None, **given: Any) -> object:
        version = ModelVersion("tiny", 1, tmp_path / "tiny" / "1", config, None)
        return (
            EngineFactory(settings_of(engine_cache=tmp_path / "cache", **given), 1, 1)
            .open(version, CPU, batched=True)
            .engine
        )

    assert isinstance(opened(engine="onnx"), OnnxCpuEngine)
    assert isinstance(opened(engine="openvino", cpu_precision="fp32"), OpenVinoCpuEngine)
    own = config_of(cpu_engine="openvino", cpu_precision="fp32")
    assert isinstance(opened(own, engine="onnx"), OpenVinoCpuEngine)
