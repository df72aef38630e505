"""Servers with the HTTP API, and clients of it. The front end of the gRPC port makes no difference to it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.server.conftest import Running, Start


@pytest.fixture
def frontend() -> str:
    return "native"


@pytest.fixture
async def running(start: Start) -> Running:
    return await start()


@pytest.fixture
async def http(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(running) as client:
        yield client


def client_of(running: Running, **options: Any) -> httpx.AsyncClient:
    """A client of the server's HTTP API."""
    scheme = options.pop("scheme", "http")
    return httpx.AsyncClient(base_url=f"{scheme}://127.0.0.1:{running.serving.rest_port}", timeout=30, **options)


def error_of(answer: httpx.Response) -> str:
    """The text of a refusal."""
    assert answer.headers["content-type"] == "application/json"
    return str(json.loads(answer.content)["error"])
