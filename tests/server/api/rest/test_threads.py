"""Long bodies are read, and long replies written, in other threads than the event loop's."""

import threading
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.api import kserve, kserve_tensors, response_cache
from server.api.rest import image_reply, images, v2
from server.api.rest.endpoint import LARGE_BYTES
from tests.server.api.rest.conftest import client_of
from tests.server.api.rest.test_images import png
from tests.server.conftest import Running, Start
from tests.server.graphs import write_styled, write_translator

Threads = list[str]
LOOP, OTHER = "MainThread", "codec"


def watch(monkeypatch: pytest.MonkeyPatch, place: Any, name: str) -> Threads:
    """The threads of every call of that function, in turn."""
    found: Threads = []
    real: Callable[..., Any] = getattr(place, name)

    def watched(*arguments: Any) -> Any:
        found.append(threading.current_thread().name)
        return real(*arguments)

    monkeypatch.setattr(place, name, watched)
    return found


@pytest.fixture
def repository(repository: Path) -> Path:
    write_styled(repository, "styled")
    write_translator(repository, "translator")
    config = 'backend: "onnxruntime" max_batch_size: 100000 response_cache { enable: true }'
    (repository / "tiny" / "config.pbtxt").write_text(config)
    return repository


def padded(text: str) -> str:
    """JSON that is long."""
    return text[:-1] + " " * LARGE_BYTES + text[-1]


async def test_json_of_images(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    read = watch(monkeypatch, images, "read_json")
    write = watch(monkeypatch, image_reply, "_write_json")
    body = '{"seeds": [1, 2], "labels": ["one"]}'
    short = await http.post("/v1/models/styled:generate", content=body)
    long = await http.post("/v1/models/styled:generate", content=padded(body))
    assert [each["data"] for each in long.json()["images"]] == [each["data"] for each in short.json()["images"]]
    assert read == [LOOP, OTHER]
    assert write == [LOOP, LOOP]
    many = {"count": 400, "labels": ["one"], "format": "raw"}
    monkeypatch.setattr(image_reply, "LARGE_BYTES", 400 * 8 - 1)
    assert len((await http.post("/v1/models/styled:generate", json=many)).json()["images"]) == 400
    assert write == [LOOP, LOOP, OTHER]


async def test_forms_and_base64(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    form, base64 = watch(monkeypatch, images, "read_form"), watch(monkeypatch, images, "read_base64")
    picture, address = png(256, 256), "/v1/models/translator:translate"
    assert len(picture) > LARGE_BYTES
    as_form = await http.post(address, files={"image": picture})
    as_json = await http.post(address, json={"image": b64encode(picture).decode()}, headers={"accept": "image/png"})
    assert as_form.status_code == as_json.status_code == 200
    assert as_form.content == as_json.content
    assert (form, base64) == ([OTHER], [OTHER])


async def test_json_of_the_other_addresses(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    read = watch(monkeypatch, v2, "read_json")
    assert (await http.post("/v2/repository/index", content="{}")).status_code == 200
    assert (await http.post("/v2/repository/index", content=padded("{}"))).status_code == 200
    assert read == [LOOP, OTHER]


async def test_every_connection_has_its_own_turn(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, found = running.server._workers._waiting, []
    put = waiting.put

    def noted(work: Any) -> None:
        found.append((work.function.__name__, work.client))
        put(work)

    monkeypatch.setattr(waiting, "put", noted)
    monkeypatch.setattr(image_reply, "LARGE_BYTES", 0)
    monkeypatch.setattr(v2, "LARGE_BYTES", 0)
    latent = {"name": "latent", "datatype": "FP32", "shape": [64, 4], "data": [0.0] * 256}
    for _ in range(2):
        async with client_of(running) as http:
            body = padded('{"seeds": [1, 2], "labels": ["one"]}')
            assert (await http.post("/v1/models/styled:generate", content=body)).status_code == 200
            answer = await http.post("/v2/models/tiny/infer", json={"inputs": [latent]})
            assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
    places = {"_write_json", "read_request", "write_answer", "_compress"}
    assert places < {name for name, _ in found}
    clients = {client for _, client in found}
    assert len(clients) == 2
    assert all(client.startswith("http:127.0.0.1:") for client in clients)


async def test_values_and_digests_of_tensors(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, plan = watch(monkeypatch, response_cache, "_digest"), watch(monkeypatch, kserve, "plan")
    monkeypatch.setattr(kserve_tensors, "_LARGE_BYTES", 1 << 20)
    running = await start(max_queue_rows=1 << 20)
    async with client_of(running) as http:
        for items, digest_in, plan_in in ((1, LOOP, LOOP), (40_000, OTHER, LOOP), (90_000, OTHER, OTHER)):
            latent = {"name": "latent", "datatype": "FP32", "shape": [items, 4], "data": [0.0] * 4 * items}
            answer = await http.post("/v2/models/tiny/infer", json={"inputs": [latent]})
            assert answer.status_code == 200, answer.text
            assert (digest.pop(), plan.pop()) == (digest_in, plan_in)
