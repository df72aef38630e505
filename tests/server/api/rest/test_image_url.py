"""Images at addresses, from real graphs: what may be kept, by whom, and what is never computed twice."""

import asyncio
import json
import re
from dataclasses import asdict
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from starlette.requests import Request

from artifact.repository import ONNX, sha256_of
from artifact.spec import Tile
from server.api import image_url
from server.api.image_url import PIN_DIGITS
from server.api.rest.call import HttpContext
from server.images.memory import Hold, MemoryBudget
from tests.server.api.rest.conftest import client_of, error_of
from tests.server.api.test_access import write_keys
from tests.server.conftest import Running, Start, read_page
from tests.server.graphs import write_styled, write_upscaler

STYLED = "/v1/models/styled/image"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    write_styled(root, "styled")
    write_upscaler(root, "up")
    return root


async def tag_of(http: httpx.AsyncClient, query: str, **headers: str) -> str:
    answer = await http.get(f"{STYLED}?{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["etag"]


async def results(running: Running) -> dict[str, int]:
    """How often which result is counted for the model `styled`."""
    _, page = await asyncio.to_thread(read_page, f"{running.url}/metrics")
    start = 'ganserve_image_url_requests_total{model="styled",result="'
    lines = [line.removeprefix(start).split('"} ') for line in page.splitlines() if line.startswith(start)]
    return {result: int(float(value)) for result, value in lines}


async def test_the_image_is_that_of_generate(http: httpx.AsyncClient) -> None:
    body = {"seed": 7, "label": "two", "truncation": 0.7, "noise_seed": 3, "format": "webp"}
    wanted = await http.post("/v1/models/styled:generate", json=body)
    found = await http.get(f"{STYLED}?seed=7&label=two&psi=.7&noise_seed=3&format=webp")
    assert (found.status_code, found.content) == (200, wanted.content), found.text
    assert (found.headers["content-type"], found.headers["ganserve-seed"]) == ("image/webp", "7")
    wanted = await http.post("/v1/models/styled:generate", json={"seed": 7, "label": 0, "then": ["up", "up"]})
    assert (await http.get(f"{STYLED}?seed=7&label=0&then=up,up")).content == wanted.content


async def test_a_tag_names_the_image_whatever_the_words_of_its_address(http: httpx.AsyncClient) -> None:
    first = await tag_of(http, "seed=7&label=two&format=png")
    assert first.startswith('"'), "a strong one"
    for same in (
        "label=1&format=png&seed=7",
        "seed=7&label=two&format=PNG&quality=1",
        "seed=07&label=two&psi=0.50&format=png",
    ):
        assert await tag_of(http, same) == first, same
    for other in ("seed=8&label=two", "seed=7&label=2", "seed=7&label=two&psi=0.99", "seed=7&label=two&noise_seed=8"):
        assert await tag_of(http, other) != first, other
    for other in ("quality=2", "format=webp", "format=jpeg", "then=up", "then=up,up"):
        assert await tag_of(http, f"seed=7&label=two&{other}") != first, other


async def test_who_has_the_image_is_told_so_and_nothing_is_computed(http: httpx.AsyncClient, running: Running) -> None:
    address = f"{STYLED}?seed=7&label=2&format=png"
    tag = await tag_of(http, "seed=7&label=2&format=png")
    for known in (tag, f'"other", W/{tag}', "*"):
        answer = await http.get(address, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert (answer.headers["etag"], answer.headers["cache-control"]) == (tag, "public, no-cache")
    assert (await http.get(address, headers={"If-None-Match": '"other"'})).status_code == 200
    assert await results(running) == {"miss": 1, "not_modified": 3, "hit": 1}


async def test_head_says_what_get_would_and_computes_nothing(http: httpx.AsyncClient, running: Running) -> None:
    address = f"{STYLED}?seed=9&label=2"
    answer = await http.head(address)
    assert (answer.status_code, answer.content) == (200, b"")
    assert "content-length" not in answer.headers
    assert await results(running) == {}
    image = await http.get(address)
    assert image.headers["etag"] == answer.headers["etag"]
    assert (await http.head(address)).headers["content-length"] == str(len(image.content))
    assert (await http.head(address, headers={"If-None-Match": answer.headers["etag"]})).status_code == 304
    assert (await http.head(f"{STYLED}?seed=9&label=99")).status_code == 400


async def test_requests_that_come_at_once_are_computed_once(http: httpx.AsyncClient, running: Running) -> None:
    answers = await asyncio.gather(*(http.get(f"{STYLED}?seed=1&label=0") for _ in range(20)))
    assert len({answer.content for answer in answers}) == 1
    assert await results(running) == {"miss": 1, "hit": 19}
    _, page = await asyncio.to_thread(read_page, f"{running.url}/metrics")
    (kept,) = [line for line in page.splitlines() if line.startswith("ganserve_kept_bytes ")]
    assert len(answers[0].content) < int(kept.split()[1]) < len(answers[0].content) + 2048


async def test_a_pinned_address_never_changes(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"{STYLED}?seed=7&label=2")
    pinned = answer.headers["content-location"]
    assert re.fullmatch(rf"/v1/models/styled@[0-9a-f]{{{PIN_DIGITS}}}/image\?label=2&seed=7", pinned)
    again = await http.get(f"{STYLED}?seed=07&label=2&psi=.70")
    assert again.headers["content-location"].endswith("?label=2&psi=0.7&seed=7"), "numbers are written in one way"
    found = await http.get(pinned)
    assert found.content == answer.content
    assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
    other = await http.get(f"/v1/models/styled@{'0' * PIN_DIGITS}/image?label=2&seed=7")
    assert (other.status_code, other.headers["cache-control"]) == (404, "no-store")
    assert f"{'0' * PIN_DIGITS} is not served; {pinned.split('@')[1][:PIN_DIGITS]} is" in error_of(other)
    further = (await http.get(f"{STYLED}?seed=7&label=2&then=up")).headers["content-location"]
    assert further.split("/")[3] != pinned.split("/")[3], "it pins the upscaler, too"


async def test_without_a_seed_each_image_is_another_and_nobody_keeps_it(http: httpx.AsyncClient) -> None:
    first, second = [await http.get(f"{STYLED}?label=0") for _ in range(2)]
    assert first.headers["ganserve-seed"] != second.headers["ganserve-seed"]
    assert first.headers["cache-control"] == "no-store"
    assert "etag" not in first.headers


async def test_the_format_is_negotiated_and_caches_are_told(http: httpx.AsyncClient) -> None:
    browser = "image/avif,image/webp,image/apng,*/*;q=0.8"
    answer = await http.get(f"{STYLED}?seed=7&label=2", headers={"Accept": browser})
    assert (answer.headers["content-type"], answer.headers["vary"]) == ("image/webp", "Accept")
    assert "vary" not in (await http.get(f"{STYLED}?seed=7&label=2&format=png")).headers
    answer = await http.get(f"{STYLED}?seed=7&label=2", headers={"Accept": "application/json"})
    assert "the reply is image/png, Accept has application/json" in error_of(answer)


@pytest.mark.parametrize(
    ("address", "code", "text"),
    [
        (f"{STYLED}?seed=7&label=2&sead=1", 400, "unknown field 'sead'; there are seed, label, psi"),
        (f"{STYLED}?seed=7&label=2&seed=8", 400, "seed: given 2 times"),
        (f"{STYLED}?seed=&label=2", 400, "seed: has no value"),
        (f"{STYLED}?seed=1.5&label=2", 400, "seed: '1.5' is not an integer"),
        (f"{STYLED}?seed=4294967296&label=2", 400, "seeds: "),
        (f"{STYLED}?seed=-1&label=2", 400, "seed: '-1' is not an integer"),
        (f"{STYLED}?seed=1&label=2&psi=nan", 400, "nan"),
        (f"{STYLED}?seed=1&label=2&psi=a", 400, "psi: 'a' is not a number"),
        (f"{STYLED}?seed=1&label=9", 400, "label"),
        (f"{STYLED}?seed=1&label=1&format=gif", 400, "format: must be one of png"),
        (f"{STYLED}?seed=1&label=1&quality=11", 400, "accepts 0..9"),
        (f"{STYLED}?seed=1&label=1&then=nobody", 404, "nobody"),
        (f"{STYLED}?seed=1&label=1&then=up,,up", 404, ""),
        (f"{STYLED}?seed=1&label={'x' * 2048}", 400, "at most 2048"),
        ("/v1/models/up/image?seed=1", 400, "use Upscale"),
        ("/v1/models/nobody/image?seed=1", 404, "nobody"),
        ("/v1/models/styled@012/image?seed=1&label=1", 404, "styled@012"),
    ],
)
async def test_what_is_wrong_is_said_and_not_kept(http: httpx.AsyncClient, address: str, code: int, text: str) -> None:
    answer = await http.get(address)
    assert (answer.status_code, answer.headers["cache-control"]) == (code, "no-store"), answer.text
    assert text in error_of(answer)


async def test_only_holders_of_a_key_get_images_and_tags(start: Start, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    write_keys(keys, {"reader": 'roles = ["infer"]', "watcher": 'roles = ["metrics"]'})
    running = await start(api_keys=keys)
    address = f"{STYLED}?seed=1&label=0"
    async with client_of(running) as http:
        assert (await http.get(address)).status_code == 401
        assert (await http.get(address, headers={"If-None-Match": "*"})).status_code == 401
        assert (await http.get(address, headers={"Authorization": "Bearer watcher-secret"})).status_code == 403
        answer = await http.get(address, headers={"Authorization": "Bearer reader-secret"})
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-cache")


def change_gain(version: Path) -> None:
    """Makes it another network of the same name and version."""
    graph = onnx.load(version / ONNX)
    (gain,) = [each for each in graph.graph.initializer if each.name == "gain"]
    gain.CopyFrom(numpy_helper.from_array(np.asarray(40, np.float32), "gain"))
    onnx.save(graph, version / ONNX)
    manifest = json.loads((version / "manifest.json").read_text())
    manifest["files"][ONNX] = sha256_of(version / ONNX)
    (version / "manifest.json").write_text(json.dumps(manifest))


async def test_a_label_that_means_another_class_is_another_address(start: Start, repository: Path) -> None:
    running = await start(model_control="explicit", load_model="*")
    async with client_of(running) as http:
        pinned = (await http.get(f"{STYLED}?seed=1&label=one")).headers["content-location"]
        path = repository / "styled" / "1" / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["labels"] = ["two", "one", "three"]
        path.write_text(json.dumps(manifest))
        assert (await http.post("/v2/repository/models/styled/load")).status_code == 200
        assert (await http.get(pinned)).status_code == 404


async def test_another_network_of_the_same_name_and_other_tiles_have_other_tags(start: Start, repository: Path) -> None:
    running = await start(model_control="explicit", load_model="*")
    async with client_of(running) as http:
        address = f"{STYLED}?seed=1&label=0"
        before = await http.get(address)
        change_gain(repository / "styled" / "1")
        assert (await http.post("/v2/repository/models/styled/load")).status_code == 200
        after = await http.get(address, headers={"If-None-Match": before.headers["etag"]})
        assert after.status_code == 200
        assert after.content != before.content
        assert (await http.get(before.headers["content-location"])).status_code == 404
        tags = [await tag_of(http, f"seed=1&label=0{then}") for then in ("", "&then=up")]
        manifest = repository / "up" / "1" / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"tile": asdict(Tile(32, 4, 1, 2, 0.0))}))
        assert (await http.post("/v2/repository/models/up/load")).status_code == 200
        assert await tag_of(http, "seed=1&label=0") == tags[0]
        assert await tag_of(http, "seed=1&label=0&then=up") != tags[1]


async def test_an_image_of_a_model_that_is_loaded_meanwhile_has_its_own_tag(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{STYLED}?seed=31&label=0"
    earlier, real = ['"earlier"'], image_url._tag
    monkeypatch.setattr(image_url, "_tag", lambda job, models: earlier.pop() if earlier else real(job, models))
    answer = await http.get(address)
    assert (answer.status_code, answer.headers["etag"] != '"earlier"') == (200, True)
    again = await http.get(address)
    assert (again.headers["etag"], again.content) == (answer.headers["etag"], answer.content)
    assert not earlier


def test_work_that_outlives_the_caller_who_began_it_keeps_no_memory_counted() -> None:
    budget = MemoryBudget(100)
    hold = Hold(budget)
    context = HttpContext(Request({"type": "http", "headers": []}), hold)
    context.end()
    hold.take(50)
    context.add_done_callback(lambda _: hold.release())
    assert budget.held_bytes == 0


async def test_what_is_kept_says_so_and_names_no_phases_of_others(http: httpx.AsyncClient) -> None:
    first, second = [await http.get(f"{STYLED}?seed=1&label=0") for _ in range(2)]
    assert first.headers["cache-status"] == "ganserve; fwd=miss"
    assert "compute;dur=" in first.headers["server-timing"]
    assert int(first.headers["ganserve-batch"]) >= 1
    assert second.headers["cache-status"] == "ganserve; hit"
    assert not {"server-timing", "ganserve-batch"} & set(second.headers)
