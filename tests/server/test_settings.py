"""Defaults, refused values, and what the help and the documentation are made from."""

from pathlib import Path

import pytest

from docs import settings_page
from server.errors import StartError
from server.settings import Panel, Settings, default_text, panel_of, read_settings


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


def test_the_clients_variable_is_no_unknown_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GANSERVE_CLIENT_API_KEY", "secret")
    assert read_settings(repository=tmp_path).api_keys is None


def test_every_setting_has_a_panel_a_sentence_and_a_default_that_people_can_read() -> None:
    for name, field in Settings.model_fields.items():
        assert panel_of(field) in Panel
        assert str(field.description).endswith(".")
        assert default_text(name, field) or name == "repository"
    texts = {name: default_text(name, field) for name, field in Settings.model_fields.items()}
    assert (texts["max_message_bytes"], texts["max_queue_bytes"]) == ("256 MiB", "2 GiB")
    assert (texts["max_image_px"], texts["drain_s"], texts["threads"]) == ("64,000,000 px", "30 s", "every core")


def test_the_page_of_settings_is_current() -> None:
    assert settings_page.main(["--check"]) == 0, "run `python -m docs.settings_page`"
