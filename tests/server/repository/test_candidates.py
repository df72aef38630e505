"""Which files of a version are tried, for every row of the table in server/repository/engine_choice.py."""

from dataclasses import replace

import pytest

from artifact.repository import ONNX, PLAN
from server.errors import NotServing
from server.repository.engine_choice import Files, candidates

BOTH = Files(ONNX, PLAN, has_onnx=True, has_plan=True, asks_plan=False)
ASKED = replace(BOTH, asks_plan=True)
ONNX_ALONE = replace(BOTH, has_plan=False)
PLAN_ALONE = replace(BOTH, has_onnx=False)


@pytest.mark.parametrize(
    ("files", "engine", "device", "expected"),
    [
        (BOTH, "auto", "cuda:0", (PLAN, ONNX)),
        (BOTH, "auto", "cpu", (ONNX,)),
        (ASKED, "auto", "cpu", (PLAN, ONNX)),
        (BOTH, "onnx", "cuda:0", (ONNX,)),
        (ASKED, "onnx", "cuda:0", (ONNX,)),
        (BOTH, "onnx", "cpu", (ONNX,)),
        (BOTH, "onnx-tensorrt", "cuda:0", (ONNX,)),
        (BOTH, "tensorrt", "cuda:1", (PLAN,)),
        (BOTH, "tensorrt", "cpu", (PLAN,)),
        (ONNX_ALONE, "auto", "cuda:0", (ONNX,)),
        (ONNX_ALONE, "auto", "cpu", (ONNX,)),
        (ONNX_ALONE, "onnx-tensorrt", "cuda:0", (ONNX,)),
        (PLAN_ALONE, "auto", "cuda:0", (PLAN,)),
        (PLAN_ALONE, "auto", "cpu", (PLAN,)),
        (PLAN_ALONE, "tensorrt", "cuda:0", (PLAN,)),
    ],
)
def test_the_files_to_try(files: Files, engine: str, device: str, expected: tuple[str, ...]) -> None:
    assert candidates(files, engine, device, "1") == expected


@pytest.mark.parametrize(
    ("files", "engine", "device", "reason"),
    [
        (PLAN_ALONE, "onnx", "cuda:0", "model.onnx is missing in version 1; --engine onnx does not serve model.plan"),
        (PLAN_ALONE, "onnx-tensorrt", "cuda:0", "model.onnx is missing .*--engine onnx-tensorrt does not serve"),
        (ONNX_ALONE, "tensorrt", "cuda:0", "model.plan is missing in version 1; --engine tensorrt does not serve mod"),
        (BOTH, "onnx-tensorrt", "cpu", "--engine onnx-tensorrt: TensorRT needs an NVIDIA GPU"),
        (replace(ONNX_ALONE, has_onnx=False), "auto", "cpu", "^model.onnx is missing in version 1$"),
        (replace(ASKED, has_onnx=False, has_plan=False), "auto", "cpu", "^model.plan is missing in version 1$"),
    ],
)
def test_a_version_without_the_file_is_not_served(files: Files, engine: str, device: str, reason: str) -> None:
    with pytest.raises(NotServing, match=reason):
        candidates(files, engine, device, "1")
