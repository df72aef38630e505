"""Tracing that is off, cannot begin, or has nobody who listens: it never costs a request its answer."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from server.environment import read_settings
from server.errors import StartError
from server.observability.otlp import FLUSH_S
from tests.server.observability.collector import Collector, collecting, until

REQUEST = service_pb2.ModelInferRequest(
    model_name="tiny",
    inputs=[{"name": "latent", "datatype": "FP32", "shape": [1, 4]}],
    raw_input_contents=[np.ones(4, np.float32).tobytes()],
)


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as listening:
        yield listening


def inferring(channel: grpc.aio.Channel) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Every warning of the tracing, ours or the SDK's."""
    names = ("server.observability.otlp", "opentelemetry")
    return [f"{record.levelname} {record.message}" for record in caplog.records if record.name.startswith(names)]


@pytest.mark.parametrize("frontend", ["native"])
async def test_a_collector_that_is_down_costs_nobody_an_answer_and_is_one_line(
    start: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.05")
    running = await start(otlp_endpoint="http://127.0.0.1:9")
    async with grpc.aio.insecure_channel(running.target) as channel:
        await inferring(channel).ModelInfer(REQUEST)
        await until(lambda: bool(said(caplog)))
        await asyncio.gather(*(inferring(channel).ModelInfer(REQUEST) for _ in range(50)))
    await running.end()
    assert said(caplog) == ["WARNING traces not sent"]
    (fields,) = [record.fields for record in caplog.records if record.message == "traces not sent"]  # type: ignore[attr-defined]
    assert fields["endpoint"] == "http://127.0.0.1:9"
    assert "traces to 127.0.0.1:9" in fields["reason"]


@pytest.mark.parametrize("frontend", ["native"])
async def test_a_collector_that_refuses_is_one_line_and_one_more_when_it_takes_spans_again(
    start: Any, collector: Collector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    collector.refusals = 3
    running = await start(otlp_endpoint=collector.endpoint)
    async with grpc.aio.insecure_channel(running.target) as channel:
        for exports in range(1, 6):
            await inferring(channel).ModelInfer(REQUEST)
            await until(lambda wanted=exports: collector.exports >= wanted)  # type: ignore[misc]
    await running.end()
    assert said(caplog) == ["WARNING traces not sent", "WARNING traces sent again"]
    assert collector.spans


@pytest.mark.slow
@pytest.mark.parametrize("frontend", ["native"])
async def test_a_collector_that_hangs_does_not_hold_up_the_stop(start: Any, collector: Collector) -> None:
    collector.answers.clear()
    running = await start(otlp_endpoint=collector.endpoint)
    async with grpc.aio.insecure_channel(running.target) as channel:
        await inferring(channel).ModelInfer(REQUEST)
    began = time.monotonic()
    await running.end()
    assert FLUSH_S <= time.monotonic() - began < FLUSH_S + 5


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_without_a_collector_no_part_of_the_library_is_loaded(repository: Path) -> None:
    code = """
import asyncio, sys
from server.app import serve
from server.environment import read_settings
async def main():
    stop = asyncio.Event()
    settings = read_settings(repository=sys.argv[1], host="127.0.0.1", grpc_port=0, http_port=0, device="cpu",
                             shutdown_delay_s=0)
    await serve(settings, lambda serving: stop.set(), stop)
asyncio.run(main())
print("served", [name for name in sys.modules if name.startswith("opentelemetry")])
"""
    ended = run_python(code, str(repository))
    assert ended.stdout == "served []\n", ended.stderr


def test_without_the_extra_a_collector_is_an_error_of_one_line(repository: Path) -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; from ganserve.cli.main import main; sys.exit(main())"
    asked = ["--otlp-endpoint", "http://127.0.0.1:4317", "--grpc-port", "0", "--http-port", "0", "--device", "cpu"]
    ended = run_python(code, "serve", "--repository", str(repository), *asked)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert "pip install 'ganserve[tracing]'" in ended.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "9"),
    ],
)
@pytest.mark.parametrize("frontend", ["native"])
async def test_a_variable_that_the_library_cannot_use_is_an_error_of_the_start(
    start: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartError, match="otlp_endpoint: OpenTelemetry's settings"):
        await start(otlp_endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("name", "value"),
    [("otlp_endpoint", "collector:4317"), ("otlp_endpoint", "http://"), ("trace_ratio", 1.5), ("trace_ratio", -0.1)],
)
def test_an_endpoint_that_is_no_url_and_a_ratio_that_is_none_are_named(name: str, value: object) -> None:
    with pytest.raises(StartError, match=f"{name}: .*{value}"):
        read_settings(repository=Path(), **{name: value})
