"""Defaults, refused values, and what the help and the documentation are made from."""

from pathlib import Path

import pytest

from docs import settings_page
from server.environment import read_settings
from server.errors import StartError
from server.setting_texts import default_text, panel_of
from server.settings import Panel, Settings


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
    monkeypatch.setenv("GANSERVE_SERVER", "elsewhere:8001")
    assert read_settings(repository=tmp_path).api_keys is None


SERVICE_LINKS = {
    "GANSERVE_PORT": "tcp://10.0.0.1:8001",
    "GANSERVE_SERVICE_HOST": "10.0.0.1",
    "GANSERVE_SERVICE_PORT": "8001",
    "GANSERVE_SERVICE_PORT_HTTP_METRICS": "8002",
    "GANSERVE_PORT_8001_TCP": "tcp://10.0.0.1:8001",
    "GANSERVE_PORT_8001_TCP_ADDR": "10.0.0.1",
    "GANSERVE_PORT_8001_UDP_PROTO": "udp",
    "GANSERVE_PORT_8001_SCTP_PORT": "8001",
    "GANSERVE_HEADLESS_PORT": "tcp://[fd00::1]:8001",
    "GANSERVE_GRPC_SERVICE_HOST": "fd00::1",
    "GANSERVE_ENVOY_SERVICE_PORT_ADMIN": "9901",
}


@pytest.mark.parametrize(("name", "value"), SERVICE_LINKS.items())
def test_variables_of_kubernetes_service_links_are_ignored(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, value)
    assert read_settings(repository=tmp_path).model_dump() == Settings(repository=tmp_path).model_dump()


@pytest.mark.parametrize("setting", ["grpc_port", "http_port"])
def test_a_service_link_that_has_the_name_of_a_setting_is_no_value_of_it(
    setting: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(f"GANSERVE_{setting.upper()}", "tcp://10.0.0.1:8001")
    assert getattr(read_settings(repository=tmp_path), setting) == Settings.model_fields[setting].default
    assert getattr(read_settings(repository=tmp_path, **{setting: 7}), setting) == 7
    monkeypatch.setenv(f"GANSERVE_{setting.upper()}", "7")
    assert getattr(read_settings(repository=tmp_path), setting) == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [("GANSERVE_PORT", "8001"), ("GANSERVE_PROT", "tcp://10.0.0.1:8001"), ("GANSERVE_SERVICE_HOSTS", "10.0.0.1")],
)
def test_what_only_looks_like_a_service_link_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartError, match=f"unknown setting in the environment: {name}"):
        read_settings(repository=tmp_path)


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
