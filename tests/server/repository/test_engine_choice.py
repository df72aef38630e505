"""Versions opened from real files: on the CPU, and on a GPU whose driver and TensorRT are fakes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import ONNX, ONNX_FP32, PLAN
from artifact.spec import FINITE, Parity, Provenance, Spec, Task, TensorRTPlan, TensorSpec
from server.engines.base import DeviceId
from server.engines.float32_fallback import FallbackEngine
from server.engines.onnx.cpu import OnnxCpuEngine
from server.environment import read_settings
from server.errors import NotServing, StartError
from server.repository.engine_choice import EngineFactory, Opened
from server.repository.model_config import ONNX_PLATFORM, PLAN_PLATFORM
from server.repository.model_version import ModelVersion
from tests.server.engines.fake_cuda import FakeCuda
from tests.server.engines.fake_tensorrt import DataType, FakeTensorRT, Network

DATA = b"vtrt and what follows"
WEIGHT = np.arange(48, dtype=np.float32).reshape(4, 12)
SPEC = Spec(
    task=Task.UNCONDITIONAL, architecture="made up", hyperparameters={}, tensors="uint8", precision="fp32", opset=18,
    inputs=(TensorSpec("latent", "FP32", (4,)),), outputs=(TensorSpec("image", "UINT8", (2, 2, 3)),),
    image_shape=(2, 2, 3), provenance=Provenance("made up", "MIT", "0" * 64), parity=Parity(1.0, 0.0, (1,), (0,)),
    latent_size=4,
)  # fmt: skip
BUILT = TensorRTPlan("rtx", "1.7.1.116", ("8.9",), "fp32", "0" * 64, ())
PLANNED = replace(SPEC, plan=BUILT)


def write_graph(path: Path, limit: float | None = None) -> None:
    """latent (N, 4) -> image (N, 2, 2, 3), and with `limit` whether the row's largest value stays under it."""
    nodes = [
        helper.make_node("MatMul", ["latent", "weight"], ["flat"]),
        helper.make_node("Clip", ["flat", "low", "high"], ["levels"]),
        helper.make_node("Reshape", ["levels", "shape"], ["picture"]),
        helper.make_node("Cast", ["picture"], ["image"], to=TensorProto.UINT8),
    ]
    outputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 2, 2, 3])]
    constants = {"weight": WEIGHT, "low": np.float32(0), "high": np.float32(255), "shape": np.array([-1, 2, 2, 3])}
    if limit is not None:
        nodes += [
            helper.make_node("ReduceMax", ["latent", "one"], ["largest"], keepdims=0),
            helper.make_node("Less", ["largest", "limit"], [FINITE]),
        ]
        outputs.append(helper.make_tensor_value_info(FINITE, TensorProto.BOOL, ["N"]))
        constants |= {"one": np.array([1]), "limit": np.float32(limit)}
    graph = helper.make_graph(
        nodes,
        "made up",
        [helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["N", 4])],
        outputs,
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty version 1."""
    made = tmp_path / "m" / "1"
    made.mkdir(parents=True)
    return made


def config_of(text: str) -> ModelConfig:
    return text_format.Parse(text + " max_batch_size: 8", ModelConfig())


class Open:
    """Opens the version in `folder`."""

    def __init__(self, folder: Path, cuda: FakeCuda | None = None) -> None:
        self.folder = folder
        self.cuda = cuda

    def __call__(
        self, engine: str = "auto", device: str = "cpu", config: str = "", spec: Spec | None = SPEC, **settings: Any
    ) -> Opened:
        library = None if self.cuda is None else FakeTensorRT(self.cuda, {DATA: drawing_network()})
        given = read_settings(repository=self.folder.parent, engine=engine, **settings)
        factory = EngineFactory(given, 1, 1, library=library, cuda=self.cuda)
        version = ModelVersion("m", 1, self.folder, config_of(config), spec)
        return factory.open(version, DeviceId.parse(device), batched=True)


def drawing_network() -> Network:
    """What `write_graph` writes, as a plan."""

    def draw(arrays: Any) -> Any:
        return {"image": np.clip(arrays["latent"] @ WEIGHT, 0, 255).reshape(-1, 2, 2, 3).astype(np.uint8)}

    return Network(
        {"latent": (DataType.FLOAT, (-1, 4))},
        {"image": (DataType.UINT8, (-1, 2, 2, 3))},
        [{"latent": ((1, 4), (8, 4), (8, 4))}],
        draw,
    )


@pytest.fixture
def opened(folder: Path) -> Open:
    return Open(folder)


@pytest.fixture
def on_gpu(folder: Path, tmp_path: Path) -> Callable[..., Opened]:
    """Opens on a GPU of 8.9 whose driver is a fake, with a cache of the test's own."""
    opener = Open(folder, FakeCuda())

    def run(**given: Any) -> Opened:
        return opener(device="cuda:0", engine_cache=tmp_path / "cache", **given)

    return run


def latents(*largest: float) -> dict[str, np.ndarray]:
    return {"latent": np.array([[value, 0, 0, 0] for value in largest], np.float32)}


def test_the_graph_serves_on_the_cpu_whatever_lies_beside_it(folder: Path, opened: Open) -> None:
    write_graph(folder / ONNX)
    (folder / PLAN).write_bytes(DATA)
    result = opened()
    assert isinstance(result.engine, OnnxCpuEngine)
    assert (result.note, result.platform) == ("", ONNX_PLATFORM)
    np.testing.assert_array_equal(result.engine.run(latents(1.0), False)["image"].ravel(), np.arange(12))


def test_a_plan_alone_on_the_cpu_says_that_it_needs_a_gpu(folder: Path, opened: Open) -> None:
    (folder / PLAN).write_bytes(DATA)
    for engine in ("auto", "tensorrt"):
        with pytest.raises(NotServing, match=r"^model.plan: TensorRT needs an NVIDIA GPU; this server runs the model"):
            opened(engine=engine, spec=PLANNED)


def test_who_asks_for_the_plan_hears_why_something_else_serves(folder: Path, opened: Open) -> None:
    write_graph(folder / ONNX)
    (folder / PLAN).write_bytes(DATA)
    for asked in ('platform: "tensorrt_plan"', 'backend: "tensorrt"', 'default_model_filename: "model.plan"'):
        result = opened(config=asked)
        assert result.note.startswith("serves model.onnx: model.plan: TensorRT needs an NVIDIA GPU")
        assert result.platform == ONNX_PLATFORM
    assert opened(config='backend: "onnxruntime"').note == ""
    (folder / PLAN).unlink()
    for asked in ('platform: "tensorrt_plan"', 'backend: "tensorrt"', 'default_model_filename: "model.plan"'):
        assert opened(config=asked).note.startswith("serves model.onnx: model.plan is missing in version 1")


def test_a_file_that_the_config_names_is_the_one(folder: Path, opened: Open) -> None:
    write_graph(folder / "other.onnx")
    (folder / PLAN).write_bytes(DATA)
    assert opened(config='default_model_filename: "other.onnx"').platform == ONNX_PLATFORM
    with pytest.raises(NotServing, match=r"other\.plan is missing in version 1"):
        opened(config='default_model_filename: "other.plan"')
    (folder / "other.plan").write_bytes(DATA)
    with pytest.raises(NotServing, match=r"other\.plan: TensorRT needs"):
        opened(config='default_model_filename: "other.plan"')


def test_a_plan_that_fits_the_gpu_is_served(folder: Path, on_gpu: Callable[..., Opened]) -> None:
    write_graph(folder / ONNX)
    (folder / PLAN).write_bytes(DATA)
    result = on_gpu(spec=PLANNED)
    assert (result.note, result.platform) == ("", PLAN_PLATFORM)
    np.testing.assert_array_equal(result.engine.run(latents(1.0), False)["image"].ravel(), np.arange(12))
    result.engine.close()


@pytest.mark.parametrize(
    ("plan", "config", "reason"),
    [
        (replace(BUILT, compute_capabilities=("9.0",)), "", r"model.plan was built for 9.0; this GPU .* is 8.9"),
        (
            replace(BUILT, version="1.3.0"),
            "",
            r"model.plan was built by TensorRT for RTX 1.3.0, 1.7.1.116 is installed",
        ),
        (
            BUILT,
            'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" '
            'parameters { key: "precision_mode" value: "FP16" } } } }',
            r"model.plan is fp32; config.pbtxt's precision_mode requires FP16",
        ),
    ],
)
def test_a_plan_that_does_not_fit_leaves_its_place_to_the_graph_with_the_reason(
    folder: Path, on_gpu: Callable[..., Opened], plan: TensorRTPlan, config: str, reason: str
) -> None:
    (folder / PLAN).write_bytes(DATA)
    spec = replace(SPEC, plan=plan)
    with pytest.raises(NotServing, match=reason):
        on_gpu(spec=spec, config=config)
    write_graph(folder / ONNX)
    result = on_gpu(spec=spec, config=config)
    assert result.platform == ONNX_PLATFORM
    assert result.note.startswith("serves model.onnx: model.plan ")
    assert "\n" not in result.note
    np.testing.assert_array_equal(result.engine.run(latents(1.0), False)["image"].ravel(), np.arange(12))
    with pytest.raises(NotServing, match=reason):
        on_gpu(spec=spec, config=config, engine="tensorrt")


def test_a_damaged_plan_leaves_its_place_to_the_graph_too(folder: Path, on_gpu: Callable[..., Opened]) -> None:
    write_graph(folder / ONNX)
    (folder / PLAN).write_bytes(b"vtrt and something else")
    result = on_gpu(spec=None)
    assert result.platform == ONNX_PLATFORM
    assert "model.plan" in result.note


def test_a_graph_on_a_gpu_that_onnx_runtime_cannot_use_runs_on_the_cpu_and_says_so(
    folder: Path, on_gpu: Callable[..., Opened]
) -> None:
    write_graph(folder / ONNX)
    result = on_gpu(engine="onnx")
    assert result.note.startswith("model.onnx runs on the CPU: this onnxruntime ")
    assert isinstance(result.engine, OnnxCpuEngine)


def test_rows_that_are_not_finite_are_computed_again_from_the_file_beside_it(folder: Path, opened: Open) -> None:
    write_graph(folder / ONNX, limit=10.0)
    write_graph(folder / ONNX_FP32, limit=100.0)
    engine = opened(spec=replace(SPEC, precision="fp16")).engine
    assert isinstance(engine, FallbackEngine)
    fallbacks: list[int] = []
    engine.on_fallback = fallbacks.append
    assert [tensor.name for tensor in engine.outputs] == ["image"]
    pictures = engine.run(latents(1.0, 20.0, 2.0, 30.0), False)
    assert set(pictures) == {"image"}
    assert pictures["image"][:, 0, 0, 1].tolist() == [1, 20, 2, 30]
    assert fallbacks == [2]
    with pytest.raises(ArithmeticError):
        engine.run(latents(1.0, 200.0), False)
    engine.close()


def test_without_a_file_of_more_precision_rows_that_are_not_finite_fail_at_once(folder: Path, opened: Open) -> None:
    write_graph(folder / ONNX, limit=10.0)
    engine = opened().engine
    assert isinstance(engine, FallbackEngine)
    assert [tensor.name for tensor in engine.outputs] == ["image"]
    assert set(engine.run(latents(1.0), False)) == {"image"}
    with pytest.raises(ArithmeticError, match="the model has no graph of more precision"):
        engine.run(latents(1.0, 20.0), False)
    engine.close()


def test_an_output_of_that_name_in_a_model_without_a_manifest_is_the_users_own(folder: Path, opened: Open) -> None:
    write_graph(folder / ONNX, limit=10.0)
    engine = opened(spec=None).engine
    assert [tensor.name for tensor in engine.outputs] == ["image", FINITE]


def test_a_damaged_graph_is_the_reason(folder: Path, opened: Open) -> None:
    (folder / ONNX).write_bytes(b"not a graph")
    with pytest.raises(NotServing, match="ONNX Runtime cannot open it"):
        opened()


def test_what_this_onnx_runtime_does_not_have_ends_the_start(tmp_path: Path) -> None:
    for given, reason in (
        ({"engine": "onnx-tensorrt"}, "--engine onnx-tensorrt: this onnxruntime .* and no TensorrtExecutionProvider"),
        ({"engine": "onnx", "device": "cuda"}, "--engine onnx on device cuda: .* and no CUDAExecutionProvider"),
    ):
        with pytest.raises(StartError, match=reason):
            EngineFactory(read_settings(repository=tmp_path, **given), 1, 1)
