"""Graphs for ONNX Runtime's engines, and inputs for one of them."""

from pathlib import Path

import numpy as np
import pytest

from tests.server.conftest import write_tiny
from tests.server.graphs import write_translator


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    write_tiny(tmp_path, "tiny")
    return tmp_path / "tiny" / "1" / "model.onnx"


@pytest.fixture
def translator(tmp_path: Path) -> Path:
    write_translator(tmp_path, "translator")
    return tmp_path / "translator" / "1" / "model.onnx"


def latents(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"latent": np.random.RandomState(seed).randn(rows, 4).astype(np.float32)}
