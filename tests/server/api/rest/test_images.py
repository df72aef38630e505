"""Images over HTTP, as curl and browsers send and get them, from real graphs."""

import base64
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from server.api.rest.fields import read_floats
from server.api.rest.image_reply import accepted_types
from server.api.rest.tensors import read_request
from server.errors import InvalidRequest
from tests.server.api.rest.conftest import client_of, error_of
from tests.server.conftest import Start
from tests.server.graphs import write_styled, write_translator, write_upscaler


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    write_styled(root, "styled")
    write_upscaler(root, "up")
    write_translator(root, "translate")
    return root


def opened(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def png(width: int = 6, height: int = 4) -> bytes:
    pixels = np.random.RandomState(1).randint(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


async def test_one_seed_is_one_image(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/models/styled:generate", json={"seed": 7, "label": "two"})
    assert answer.headers["content-type"] == "image/png", answer.text
    assert answer.headers["ganserve-seed"] == "7"
    first = np.array(opened(answer))
    answer = await http.post("/v1/models/styled:generate", json={"seeds": [3, 7], "labels": [1]})
    found = answer.json()
    assert [image["seed"] for image in found["images"]] == [3, 7]
    second = np.array(Image.open(io.BytesIO(base64.b64decode(found["images"][1]["data"]))))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("accept", "format", "found"),
    [
        ("image/webp", None, "image/webp"),
        ("image/jpeg;q=0.5, image/webp;q=0.9", None, "image/webp"),
        ("image/*", "jpeg", "image/jpeg"),
        ("text/html, */*;q=0.1", None, "image/png"),
        ("application/json", "webp", "application/json"),
        ("", "raw", "application/octet-stream"),
    ],
)
async def test_accept_chooses_the_form(http: httpx.AsyncClient, accept: str, format: str | None, found: str) -> None:
    body: dict[str, Any] = {"seed": 1, "label": 0} | ({"format": format} if format else {})
    answer = await http.post("/v1/models/styled:generate", json=body, headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, found)


@pytest.mark.parametrize(
    ("accept", "body", "text"),
    [
        ("image/gif", {"seed": 1}, "the reply is image/png or application/json"),
        ("image/jpeg", {"seed": 1, "format": "png"}, "Accept has image/jpeg"),
        ("image/png", {"seeds": [1, 2], "label": 0}, "2 images are sent as application/json"),
        ("*/*", {}, "nothing to generate"),
        ("*/*", {"sead": 1}, "unknown field 'sead'"),
        ("*/*", {"seed": 1, "seeds": [1]}, "given with seeds"),
        ("*/*", {"seed": 1, "count": 2}, "given with seeds"),
        ("*/*", {"seed": 1.5}, "1.5 is not an integer"),
        ("*/*", {"seed": True}, "not an integer"),
        ("*/*", {"seed": -1}, "seeds"),
        ("*/*", {"seeds": 3}, "must be an array"),
        ("*/*", {"count": 1 << 40}, "count"),
        ("*/*", {"seed": 1, "labels": [None]}, "neither a name nor an index"),
        ("*/*", {"seed": 1, "label": "a" * 70_000}, "labels: a text of 70000 characters, at most 65536"),
        ("*/*", {"seed": 1, "truncation_center": "a" * 70_000}, "a text of 70000 characters"),
        ("*/*", {"seed": 1, "edits": [{}] * 20_000}, "edits: 20000 given, at most 16384"),
        ("*/*", {"seed": 1, "truncation": "0.5"}, "not a number"),
        ("*/*", {"seed": 1, "format": "gif"}, "must be one of png"),
        ("*/*", {"seed": 1, "quality": "high"}, "not an integer"),
        ("*/*", {"latents": [[1, 2], [3]]}, "rows of different lengths"),
        ("*/*", {"latents": ["a"]}, "array of numbers"),
        ("*/*", {"latents": [["a", 1], [2, 3]]}, "array of numbers"),
        ("*/*", {"seed": 1, "version": [1]}, "must be a string"),
        ("*/*", {"seed": 1, "label": 0, "then": 3}, "then: 3 is neither a model's name nor an array of steps"),
        ("*/*", {"seed": 1, "label": 0, "then": [["up"]]}, "neither a model's name nor an array of steps"),
        ("*/*", {"seed": 1, "label": 0, "then": [{"model": "up", "alpha": "drop"}]}, "unknown field 'alpha'"),
        ("*/*", {"seed": 1, "label": 0, "then": [{"model": None}]}, "model: must be a string"),
        ("*/*", {"seed": 1, "label": 0, "then": "styled"}, "step 2 (model 'styled'): model 'styled' is class-cond"),
    ],
)
async def test_what_cannot_be_is_refused(http: httpx.AsyncClient, accept: str, body: Any, text: str) -> None:
    answer = await http.post("/v1/models/styled:generate", json=body, headers={"Accept": accept})
    assert answer.status_code == 400
    assert text in error_of(answer)


async def test_further_models_enlarge_and_translate_what_was_generated(http: httpx.AsyncClient) -> None:
    url, body = "/v1/models/styled:generate", {"seed": 7, "label": 0}
    small = np.array(opened(await http.post(url, json=body)))
    answer = await http.post(url, json={**body, "then": "up"})
    assert answer.headers["ganserve-then"] == "up/1"
    np.testing.assert_array_equal(np.array(opened(answer)), small.repeat(2, 0).repeat(2, 1))
    steps = ["up", {"model": "up", "version": 1}, "translate"]
    answer = await http.post(url, json={**body, "then": steps, "format": "png"}, headers={"Accept": "application/json"})
    found = answer.json()
    assert [(step["model"], step["version"], step["tiles"]) for step in found["then"]] == [
        ("up", "1", 1), ("up", "1", 1), ("translate", "1", 1)
    ]  # fmt: skip
    assert (found["images"][0]["width"], found["images"][0]["height"], found["images"][0]["channels"]) == (16, 8, 3)


async def test_latents_are_arrays_of_numbers(http: httpx.AsyncClient) -> None:
    model = (await http.get("/v1/models/styled")).json()["models"][0]
    latent = np.random.RandomState(7).randn(1, model["latent_size"])
    answer = await http.post(
        "/v1/models/styled:generate", json={"latents": latent.tolist(), "label": 0, "noise_seed": 5}
    )
    by_seed = await http.post("/v1/models/styled:generate", json={"seed": 7, "label": 0, "noise_seed": 5})
    np.testing.assert_array_equal(np.array(opened(answer)), np.array(opened(by_seed)))


@pytest.mark.parametrize("how", ["body", "curl", "form", "json"])
async def test_an_image_is_sent_in_four_ways(http: httpx.AsyncClient, how: str) -> None:
    url, data = "/v1/models/up:upscale", png()
    if how == "body":
        answer = await http.post(f"{url}?format=webp", content=data, headers={"Content-Type": "image/png"})
    elif how == "curl":  # --data-binary
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await http.post(f"{url}?format=webp", content=data, headers=headers)
    elif how == "form":
        answer = await http.post(url, files={"image": ("a.png", data)}, data={"format": "webp"})
    else:
        answer = await http.post(url, json={"image": base64.b64encode(data).decode(), "format": "webp"})
    assert answer.headers["content-type"] == "image/webp"
    assert opened(answer).size[0] in (12, 24)


async def test_a_reference_comes_as_a_second_file_or_in_json(http: httpx.AsyncClient) -> None:
    url, data = "/v1/models/translate:translate", png()
    refused = [
        await http.post(url, files={"image": ("a.png", data), "reference": ("b.png", data)}),
        await http.post(url, json={"image": base64.b64encode(data).decode(), "reference": "%"}),
        await http.post(f"{url}?reference=b.png", content=data),
        await http.post(f"{url}?seed=7", content=data),
    ]
    for answer, text in zip(
        refused,
        (
            "reference: given, but the model takes no styles",
            "reference: is not base64",
            "reference: must be an image, a form's file or base64 in JSON",
            "seed: 7 given, but the model takes no styles",
        ),
        strict=True,
    ):
        assert (answer.status_code, text in error_of(answer)) == (400, True), answer.text


async def test_a_large_form_stays_in_memory(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose file system cannot be written."""
    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", lambda self: pytest.fail("written to disk"))
    file = io.BytesIO()
    Image.fromarray(np.random.RandomState(1).randint(0, 256, (700, 700, 3), np.uint8)).save(file, "PNG")
    assert len(file.getvalue()) > 1 << 20
    answer = await http.post("/v1/models/up:upscale", files={"image": file.getvalue()})
    assert answer.status_code == 200, answer.text


async def test_a_call_holds_its_body_and_its_image_as_one(start: Start) -> None:
    running = await start(max_held_bytes=1 << 20, max_image_px=1 << 22)
    async with client_of(running) as http:
        sent = png(640, 480)  # 0.9 MB: more than may be held, and more with its pixels; but nobody else holds anything
        answer = await http.post("/v1/models/up:upscale", content=sent, headers={"Content-Type": "image/png"})
        assert opened(answer).size == (1280, 960)
        assert running.server._budget.held_bytes == 0


@pytest.mark.parametrize("how", ["address", "json"])
async def test_an_image_comes_at_the_size_that_is_asked_for(http: httpx.AsyncClient, how: str) -> None:
    url, data = "/v1/models/up:upscale", png()
    size: dict[str, Any] = {"width": 30, "height": 10, "fit": "Cover"}
    if how == "address":
        answer = await http.post(url, params=size, content=data, headers={"Content-Type": "image/png"})
    else:
        answer = await http.post(url, json={"image": base64.b64encode(data).decode(), **size})
    assert opened(answer).size == (30, 10)
    answer = await http.post(f"{url}?scale=1.5", content=data)
    assert opened(answer).size[0] in (9, 18)


async def test_translate_gives_an_image_of_the_same_size(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/models/translate:translate", content=png(8, 8))
    assert opened(answer).size == (8, 8)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"content": png(), "params": {"labels": "Blond_Hair, Male"}},
            "labels: 2 given, but the model has no attributes",
        ),
        ({"files": {"image": png()}, "data": {"labels": "a,b,c"}}, "labels: 3 given"),
        ({"content": png(), "params": {"label": "Blond_Hair"}}, "labels: 1 given"),
        ({"json": {"image": base64.b64encode(png()).decode(), "labels": ["a", 3]}}, "labels: 2 given"),
        ({"json": {"image": base64.b64encode(png()).decode(), "labels": [1.5]}}, "labels: 1.5 is neither a name"),
        ({"content": png(), "params": [("label", "a"), ("label", "b")]}, "label: given twice"),
    ],
)
async def test_labels_reach_translate_however_they_are_sent(http: httpx.AsyncClient, options: Any, text: str) -> None:
    answer = await http.post("/v1/models/translate:translate", **options)
    assert answer.status_code == 400
    assert text in error_of(answer)


async def test_a_step_may_have_labels(http: httpx.AsyncClient) -> None:
    body = {"seed": 7, "label": 0, "then": [{"model": "translate", "labels": ["x", "y"]}]}
    answer = await http.post("/v1/models/styled:generate", json=body)
    assert "step 2 (model 'translate'): labels: 2 given" in error_of(answer)


# In UTF-7 half of a pair of surrogates, which no text has.
MULTI = "multipart/form-data; boundary=a"
PART = b'--a\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
FORM = PART % (b"version", b"+2AA-") + PART % (b'image"; filename="a', png()) + b"--a--\r\n"


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ({"content": b""}, 400, "image: is missing"),
        ({"content": b"GIF89a"}, 400, "PNG, JPEG or WebP"),
        ({"content": png(), "params": {"alpha": "yes"}}, 400, "must be one of keep, drop"),
        ({"content": png(), "params": {"zoom": "2"}}, 400, "unknown field 'zoom'"),
        ({"content": png(), "params": {"scale": "large"}}, 400, "scale: 'large' is not a number"),
        ({"content": png(), "params": {"scale": "0"}}, 400, "scale: 0; must be above 0"),
        ({"content": png(), "params": {"width": "0"}}, 400, "width: 0; must be above 0"),
        ({"content": png(), "params": {"width": "2.5"}}, 400, "width: '2.5' is not an integer"),
        ({"content": png(), "params": {"width": "8", "height": "8", "fit": "x"}}, 400, "one of contain, cover, fill"),
        ({"content": png(), "headers": {"Content-Type": "text/plain"}}, 501, "'text/plain' is not offered"),
        ({"json": {"image": "*"}}, 400, "not base64"),
        ({"json": {"image": 5}}, 400, "base64"),
        ({"files": [("image", b"a"), ("image", b"b")]}, 400, "image: given twice"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "multipart"),
        ({"content": b"x", "headers": {"Content-Type": MULTI}}, 400, "multipart"),
        ({"content": FORM, "headers": {"Content-Type": f"{MULTI}; charset=utf-7"}}, 400, "utf-7"),
        ({"content": FORM, "headers": {"Content-Type": f"{MULTI}; charset=UTF-8"}}, 400, "+2AA-"),
        ({"content": FORM, "headers": {"Content-Type": f"{MULTI}; charset=utf8"}}, 400, "+2AA-"),
        ({"content": FORM, "headers": {"Content-Type": f"{MULTI}; charset=ISO-8859-1"}}, 400, "+2AA-"),
    ],
)
async def test_what_is_no_image_is_refused(http: httpx.AsyncClient, options: Any, code: int, text: str) -> None:
    answer = await http.post("/v1/models/up:upscale", **options)
    assert answer.status_code == code, answer.text
    assert text in error_of(answer)


def test_one_long_string_among_numbers_does_not_make_all_of_them_as_long() -> None:
    values = ["x" * 100_000, *[0] * 1000]
    body = json.dumps({"inputs": [{"name": "latent", "datatype": "FP32", "shape": [1001], "data": values}]}).encode()
    tracemalloc.start()
    with pytest.raises(InvalidRequest, match="must be an array of numbers"):
        read_floats("latents", [values], (2,))
    with pytest.raises(InvalidRequest, match="not FP32"):
        read_request(body, None, "model", "", 1 << 20)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 << 20, "400 MB for each of them"


async def test_models_are_listed(http: httpx.AsyncClient) -> None:
    names = [model["name"] for model in (await http.get("/v1/models")).json()["models"]]
    assert names == ["styled", "translate", "up"]
    assert (await http.get("/v1/models/none")).status_code == 404
    assert (await http.post("/v1/models/none:generate", json={"seed": 1})).status_code == 404
    answer = await http.post("/v1/models/up:generate", json={"seed": 1})
    assert (answer.status_code, "use Upscale" in error_of(answer)) == (400, True)


def test_accept_is_ordered_by_quality() -> None:
    assert accepted_types("image/png;q=0.2, image/webp, */*;q=0") == ["image/webp", "image/png"]
    assert accepted_types("") == ["*/*"]
    assert accepted_types(";;,q=,image/png;q=x") == ["q=", "image/png"]


async def events_of(http: httpx.AsyncClient, url: str, **options: Any) -> list[tuple[str, Any]]:
    headers = {"Accept": "text/event-stream"}
    async with http.stream("POST", url, headers=headers, **options) as answer:
        text = (await answer.aread()).decode()
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8"), text
    events = [part.split("\n") for part in text.split("\n\n") if part and not part.startswith(":")]
    return [(name.removeprefix("event: "), data.removeprefix("data: ")) for name, data in events]


async def test_upscaling_as_events_says_how_far_it_is(http: httpx.AsyncClient) -> None:
    url, data = "/v1/models/up:upscale", png(200, 150)
    events = await events_of(http, url, content=data)
    whole = b"".join(base64.b64decode(content) for name, content in events if name == "data")
    assert whole == (await http.post(url, content=data)).content
    done = [json.loads(content)["tiles_done"] for name, content in events if name == "progress"]
    result = json.loads(events[-1][1])
    assert (events[-1][0], done == sorted(done), done[-1]) == ("result", True, result["tiles"])
    assert (result["model"], result["image"]["width"], result["image"]["format"]) == ("up", 400, "png")
    headers = {"Accept": "text/event-stream"}
    refused = await http.post(url, content=b"no image", headers=headers)
    assert (refused.status_code, "must be PNG, JPEG or WebP" in error_of(refused)) == (400, True)
    translated = await http.post("/v1/models/translate:translate", content=data, headers=headers)
    assert (translated.status_code, "Accept has text/event-stream" in error_of(translated)) == (400, True)


@pytest.mark.parametrize("bits", [8, 16])
async def test_raw_pixels_go_in_and_out(http: httpx.AsyncClient, bits: int) -> None:
    pixels = np.random.RandomState(1).randint(0, 1 << bits, (4, 6, 3)).astype("<u2" if bits == 16 else np.uint8)
    params: dict[str, Any] = {"raw_width": 6, "raw_height": 4, "raw_bits": bits, "format": "raw"}
    answer = await http.post("/v1/models/up:upscale", content=pixels.tobytes(), params=params)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream"), answer.text
    levels = (pixels >> 8).astype(np.uint8) if bits == 16 else pixels
    assert answer.content == levels.repeat(2, 0).repeat(2, 1).tobytes()
    assert ("ganserve-warning" in answer.headers) == (bits == 16), "this model computes 8"


async def test_metadata_and_eight_ways_over_http(http: httpx.AsyncClient) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    Image.fromarray(np.full((4, 6, 3), 90, np.uint8)).save(file, "PNG", exif=exif)
    url = "/v1/models/up:upscale"
    params = {"metadata": "Keep", "tta": "true", "width": "9", "resample": "area"}
    image = opened(await http.post(url, content=file.getvalue(), params=params))
    assert (image.size, image.getexif()[0x010F]) == ((9, 6), "Maker")
    for field, value in (("metadata", "all"), ("tta", "maybe"), ("resample", "cubic"), ("raw_bits", "x")):
        refused = await http.post(url, content=file.getvalue(), params={field: value})
        assert (refused.status_code, error_of(refused).startswith(field)) == (400, True)
