"""Why an engine is refused: one line that says what differs."""

from dataclasses import replace
from typing import Any

import pytest

from artifact.tensorrt import INSTALL
from server.engines.tensorrt.compatibility import Gpu, refusal
from tests.server.engines.conftest import PLAN

H100 = Gpu("NVIDIA H100", "9.0", 0, 80 << 30)
T4 = Gpu("Tesla T4", "7.5", 0, 16 << 30)
L4 = Gpu("NVIDIA L4", "8.9", 0, 24 << 30)
INSTALLED = PLAN.version


@pytest.mark.parametrize(
    ("change", "gpu", "version", "wanted", "reason"),
    [
        ({}, L4, INSTALLED, None, ""),
        ({}, L4, INSTALLED, "FP32", ""),
        ({"compute_capabilities": ()}, H100, INSTALLED, None, ""),
        ({"compute_capabilities": ("8.9", "9.0")}, H100, "1.7.1.200", None, ""),
        ({}, L4, None, None, f"model.plan needs TensorRT for RTX, which is not installed: {INSTALL['rtx']}"),
        (
            {"variant": "classic"},
            L4,
            None,
            None,
            f"model.plan needs TensorRT, which is not installed: {INSTALL['classic']}",
        ),
        (
            {"variant": "lean"},
            L4,
            None,
            None,
            "model.plan is of the variant 'lean'; this version knows rtx and classic",
        ),
        ({}, L4, "1.8.0", None, "model.plan was built by TensorRT for RTX 1.7.1.116, 1.8.0 is installed"),
        ({}, L4, "1.7.2.116", None, "model.plan was built by TensorRT for RTX 1.7.1.116, 1.7.2.116 is installed"),
        (
            {"variant": "classic", "version": "10.13.0.35"},
            L4,
            "10.14.0.1",
            None,
            "model.plan was built by TensorRT 10.13.0.35, 10.14.0.1 is installed",
        ),
        (
            {"compute_capabilities": ("8.9", "12.0")},
            H100,
            INSTALLED,
            None,
            "model.plan was built for 8.9, 12.0; this GPU (NVIDIA H100) is 9.0",
        ),
        (
            {"precision": "fp16"},
            L4,
            INSTALLED,
            "fp32",
            "model.plan is fp16; config.pbtxt's precision_mode requires FP32",
        ),
        ({"precision": "bf16"}, L4, INSTALLED, None, ""),
        (
            {"precision": "bf16", "compute_capabilities": ()},
            T4,
            INSTALLED,
            None,
            "model.plan is bf16, which needs 8.0; this GPU (Tesla T4) is 7.5",
        ),
        (
            {"precision": "bf16", "compute_capabilities": ("12.0",)},
            replace(L4, compute_capability="12.0"),
            INSTALLED,
            "BF16",
            "",
        ),
    ],
)
def test_a_refusal_says_what_differs(
    change: dict[str, Any], gpu: Gpu, version: str | None, wanted: str | None, reason: str
) -> None:
    assert refusal(replace(PLAN, **change), gpu, version, wanted) == reason
