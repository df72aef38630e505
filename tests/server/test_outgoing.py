"""A running server opens no connection that nobody configured, and writes nothing outside its cache folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import serving

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def environment(home: Path) -> dict[str, str]:
    """This process's, without what the tests themselves set against usage data, and with an own home."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    return {**kept, "HOME": str(home)}


def test_a_server_leaves_the_home_folder_alone(repository: Path, home: Path) -> None:
    command = serving.serve_command(repository, "--device", "cpu")
    with serving.ServerProcess(command, environment(home)) as process:
        assert process.ready["models"] == 3
        assert list(home.rglob("*")) == [], "ONNX Runtime writes a device id where it sends usage data"


@pytest.mark.parametrize(
    "package",
    [
        "server.engines.onnx.session",
        "export.graph.parity",
        "bench.cpu.engine",
        "ganserve.evaluation.features",
        "ganserve.module.trace",
    ],
)
def test_whatever_imports_onnxruntime_has_turned_its_usage_data_off_before(package: str, home: Path) -> None:
    code = f"import {package}, onnxruntime; onnxruntime.SessionOptions()"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment(home), cwd=ROOT)
    assert list(home.rglob("onnxruntime*")) == []
