"""LogSettings and TraceSetting over real sockets: they change what the server writes and samples."""

import asyncio
import logging
from typing import Any

import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from server.api.remote_settings import LOG_SETTINGS, TRACE_SETTINGS, RemoteSettings
from server.environment import read_settings
from server.errors import PermissionDenied
from server.observability.otlp import OtlpTracer
from tests.server.api.test_access import write_keys
from tests.server.conftest import Running, Start


@pytest.fixture(autouse=True)
def level() -> Any:
    """The log's level, put back afterwards."""
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


async def test_the_level_of_the_log_changes_at_once(running: Running) -> None:
    def walk() -> None:
        client = triton_grpc.InferenceServerClient(running.target)
        found = client.get_log_settings(as_json=True)["settings"]
        assert found["log_info"] == {"bool_param": True}
        assert found["log_format"] == {"string_param": "ISO8601"}
        client.update_log_settings({"log_verbose_level": 1})
        assert logging.getLogger().level == logging.DEBUG
        client.update_log_settings({"log_verbose_level": 0, "log_info": False, "log_warning": False})
        assert logging.getLogger().level == logging.ERROR
        over_http = triton_http.InferenceServerClient(f"127.0.0.1:{running.serving.rest_port}")
        assert over_http.get_log_settings()["log_warning"] is False
        assert over_http.update_log_settings({"log_warning": True})["log_warning"] is True
        assert logging.getLogger().level == logging.WARNING
        assert over_http.update_log_settings({"log_format": "default"})["log_format"] == "default"
        assert client.get_log_settings(as_json=True)["settings"]["log_format"] == {"string_param": "default"}

    await asyncio.to_thread(walk)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"log_warning": False}, "set all three"),
        ({"log_info": 3}, "log setting 'log_info': 3 given"),
        ({"log_file": "/tmp/x"}, "standard error"),
        ({"log_format": "xml"}, "must be one of"),
        ({"log_level": "info"}, "log setting 'log_level'"),
        ({"log_info": "x" * 2000}, r"log setting 'log_info': 'x{12}\.\.\.x{13}' given"),
    ],
)
async def test_other_log_settings_are_refused_and_nothing_changes(running: Running, changes: Any, text: str) -> None:
    def walk() -> None:
        client = triton_http.InferenceServerClient(f"127.0.0.1:{running.serving.rest_port}")
        before = client.get_log_settings()
        with pytest.raises(InferenceServerException, match=text):
            client.update_log_settings({"log_verbose_level": 1, **changes})
        assert client.get_log_settings() == before

    await asyncio.to_thread(walk)


async def test_the_share_of_traces_changes_at_once(start: Start) -> None:
    running = await start(otlp_endpoint="http://127.0.0.1:1", trace_ratio=0.5)
    tracer: Any = running.server._tracer
    assert isinstance(tracer, OtlpTracer)

    def sampled() -> int:
        return sum(tracer.request("s", "ModelInfer", "m", (), 0.0) is not None for _ in range(200))

    def ask(changes: Any) -> Any:
        client = triton_http.InferenceServerClient(f"127.0.0.1:{running.serving.rest_port}")
        return client.update_trace_settings(settings=changes) if changes else client.get_trace_settings()

    found = await asyncio.to_thread(ask, None)
    assert (found["trace_level"], found["trace_rate"]) == (["TIMESTAMPS"], "2")
    await asyncio.to_thread(ask, {"trace_rate": "1"})
    assert sampled() == 200
    assert (await asyncio.to_thread(ask, {"trace_level": ["OFF"]}))["trace_level"] == ["OFF"]
    assert sampled() == 0
    assert (await asyncio.to_thread(ask, {"trace_level": ["TIMESTAMPS"], "trace_rate": None}))["trace_rate"] == "2"
    assert 0 < sampled() < 200


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"trace_level": ["TENSORS"]}, "OFF or TIMESTAMPS"),
        ({"trace_level": ["TIMESTAMPS"]}, "GANSERVE_OTLP_ENDPOINT"),
        ({"trace_rate": "often"}, "must be a number"),
        ({"trace_file": "/tmp/trace.json"}, "only '' is offered"),
        ({"trace_color": "red"}, "is unknown"),
    ],
)
async def test_other_trace_settings_are_refused(running: Running, changes: Any, text: str) -> None:
    def walk() -> None:
        client = triton_grpc.InferenceServerClient(running.target)
        with pytest.raises(InferenceServerException, match=text):
            client.update_trace_settings(settings=changes)
        with pytest.raises(InferenceServerException, match="those of all models"):
            client.update_trace_settings(model_name="tiny", settings={"trace_rate": "2"})
        assert "trace_rate" in str(client.get_trace_settings(model_name="tiny"))
        found = client.update_trace_settings(settings={"trace_level": None, "trace_rate": None}, as_json=True)
        assert found["settings"]["trace_level"] == {"value": ["OFF"]}, "as at the start"

    await asyncio.to_thread(walk)


def test_strangers_change_nothing(tmp_path: Any) -> None:
    open_to_all = RemoteSettings(read_settings(repository=tmp_path, host="0.0.0.0"), None)
    assert open_to_all.log()["log_info"] is True
    assert (tuple(open_to_all.log()), tuple(open_to_all.trace())) == (LOG_SETTINGS, TRACE_SETTINGS)
    with pytest.raises(PermissionDenied, match="API keys"):
        open_to_all.change_trace("", {"trace_rate": ["1"]})
    with pytest.raises(PermissionDenied, match="API keys"):
        open_to_all.change_log({"log_info": True})
    keys = write_keys(tmp_path / "keys.toml", {"me": 'roles = ["control"]'})
    RemoteSettings(read_settings(repository=tmp_path, host="0.0.0.0", api_keys=keys), None).change_trace(
        "", {"trace_rate": ["1"]}
    )
