"""Settings that have a default of their own making."""

from pathlib import Path

import pytest

from server.errors import StartError
from server.settings import read_settings


def test_engines_are_kept_in_the_users_cache_unless_a_folder_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert read_settings(repository=tmp_path).cache_folder == tmp_path / ".cache" / "ganserve"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert read_settings(repository=tmp_path).cache_folder == tmp_path / "cache" / "ganserve"
    assert read_settings(repository=tmp_path, engine_cache=tmp_path / "kept").cache_folder == tmp_path / "kept"


@pytest.mark.parametrize(
    ("name", "value"), [("engine", "trt"), ("conv_search", "HEURISTIC"), ("gpu_memory_bytes", 1000)]
)
def test_a_word_or_size_that_means_nothing_is_named(name: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=f"{name}: .*{value}"):
        read_settings(repository=tmp_path, **{name: value})
