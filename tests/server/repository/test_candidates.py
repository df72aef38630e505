"""Which files of a version are tried, for every row of the table in server/repository/engine_choice.py."""

from pathlib import Path

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import ONNX, PLAN
from server.engines.base import DeviceId
from server.errors import NotServing
from server.repository.engine_choice import candidates
from server.repository.model_version import ModelVersion

BOTH, ONNX_ALONE, PLAN_ALONE, NOTHING = (ONNX, PLAN), (ONNX,), (PLAN,), ()
NO_WISH, WANTS_PLAN = None, ModelConfig(platform="tensorrt_plan")


def tried(
    folder: Path, files: tuple[str, ...], config: ModelConfig | None, engine: str, device: str
) -> tuple[str, ...]:
    """What is tried of a version 1 that has these files."""
    for name in files:
        (folder / name).touch()
    return candidates(ModelVersion("m", 1, folder, config, None), engine, DeviceId.parse(device))


@pytest.mark.parametrize(
    ("files", "config", "engine", "device", "expected"),
    [
        (BOTH, NO_WISH, "auto", "cuda:0", (PLAN, ONNX)),
        (BOTH, NO_WISH, "auto", "cpu", (ONNX,)),
        (BOTH, WANTS_PLAN, "auto", "cpu", (PLAN, ONNX)),
        (BOTH, NO_WISH, "onnx", "cuda:0", (ONNX,)),
        (BOTH, WANTS_PLAN, "onnx", "cuda:0", (ONNX,)),
        (BOTH, NO_WISH, "onnx", "cpu", (ONNX,)),
        (BOTH, WANTS_PLAN, "openvino", "cpu", (ONNX,)),
        (BOTH, NO_WISH, "onnx-tensorrt", "cuda:0", (ONNX,)),
        (BOTH, NO_WISH, "tensorrt", "cuda:1", (PLAN,)),
        (BOTH, NO_WISH, "tensorrt", "cpu", (PLAN,)),
        (BOTH, ModelConfig(default_model_filename=ONNX), "auto", "cuda:0", (ONNX,)),
        (BOTH, ModelConfig(default_model_filename=PLAN), "auto", "cpu", (PLAN, ONNX)),
        (ONNX_ALONE, NO_WISH, "auto", "cuda:0", (ONNX,)),
        (ONNX_ALONE, NO_WISH, "auto", "cpu", (ONNX,)),
        (ONNX_ALONE, NO_WISH, "onnx-tensorrt", "cuda:0", (ONNX,)),
        (PLAN_ALONE, NO_WISH, "auto", "cuda:0", (PLAN,)),
        (PLAN_ALONE, NO_WISH, "auto", "cpu", (PLAN,)),
        (PLAN_ALONE, NO_WISH, "tensorrt", "cuda:0", (PLAN,)),
    ],
)
def test_the_files_to_try(
    tmp_path: Path,
    files: tuple[str, ...],
    config: ModelConfig | None,
    engine: str,
    device: str,
    expected: tuple[str, ...],
) -> None:
    assert tried(tmp_path, files, config, engine, device) == expected


@pytest.mark.parametrize(
    ("files", "config", "engine", "device", "reason"),
    [
        (PLAN_ALONE, NO_WISH, "onnx", "cuda:0", "model.onnx is missing in version 1; --engine onnx does not serve mod"),
        (
            PLAN_ALONE,
            NO_WISH,
            "openvino",
            "cpu",
            "model.onnx is missing in version 1; --engine openvino does not serve",
        ),
        (BOTH, NO_WISH, "openvino", "cuda:0", "--engine openvino runs on the CPU; this model is on cuda:0"),
        (PLAN_ALONE, NO_WISH, "onnx-tensorrt", "cuda:0", "model.onnx is missing .*--engine onnx-tensorrt does not"),
        (ONNX_ALONE, NO_WISH, "tensorrt", "cuda:0", "model.plan is missing in version 1; --engine tensorrt does not"),
        (BOTH, NO_WISH, "onnx-tensorrt", "cpu", "--engine onnx-tensorrt: TensorRT needs an NVIDIA GPU"),
        (NOTHING, NO_WISH, "auto", "cpu", "^model.onnx is missing in version 1$"),
        (NOTHING, WANTS_PLAN, "auto", "cpu", "^model.plan is missing in version 1$"),
    ],
)
def test_a_version_without_the_file_is_not_served(
    tmp_path: Path, files: tuple[str, ...], config: ModelConfig | None, engine: str, device: str, reason: str
) -> None:
    with pytest.raises(NotServing, match=reason):
        tried(tmp_path, files, config, engine, device)


def test_a_link_to_a_file_that_is_not_there_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").symlink_to("../.git/annex/objects/model.onnx")
    with pytest.raises(NotServing, match=r"^model\.onnx is a link to what does not exist in version 1$"):
        tried(tmp_path, NOTHING, NO_WISH, "auto", "cpu")
