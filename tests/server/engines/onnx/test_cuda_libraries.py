"""CUDA's libraries are found where NVIDIA's Python packages have them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from server.engines.onnx import session
from server.errors import StartError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What ONNX Runtime was asked to load, as if it had a CUDA provider."""
    calls: list[dict[str, Any]] = []

    def preload_dlls(**arguments: Any) -> None:
        calls.append(arguments)
        print("Failed to load libcublas")

    monkeypatch.setattr(ort, "preload_dlls", preload_dlls)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [session.CUDA_PROVIDER, session.CPU_PROVIDER])
    session.load_cuda_libraries.cache_clear()
    yield calls
    session.load_cuda_libraries.cache_clear()


def test_they_are_loaded_once_and_nothing_is_printed(
    asked: list[dict[str, Any]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        with pytest.raises(StartError):
            session.open_session(tmp_path / "no.onnx", [(session.CUDA_PROVIDER, {})], 1)
    assert asked == [{"directory": ""}]
    assert capfd.readouterr().out == ""


def test_a_cpu_needs_none(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(StartError):
        session.open_session(tmp_path / "no.onnx", [(session.CPU_PROVIDER, {})], 1)
    assert asked == []
