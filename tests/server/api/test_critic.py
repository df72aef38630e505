"""A generator with its critic behind both APIs of the real server: scores, and images chosen by them."""

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from PIL import Image

from artifact.spec import Spec
from ganserve import AsyncClient, GeneratedImage, InvalidRequest, Overloaded
from ganserve.v1 import images_pb2 as pb
from ganserve.v1.images_pb2_grpc import ImageServiceStub
from server.api.generate_request import is_large
from server.api.limits import Limits
from server.api.selection_request import with_candidates
from server.errors import InvalidRequest as InvalidRequestError
from server.images.memory import Hold
from server.settings import Settings
from tests.server.api.rest.conftest import client_of
from tests.server.conftest import Running, Start
from tests.server.graphs import add_critic, write_styled

QUANTILES = ((100.0, 120.0, 128.0, 136.0, 156.0), (110.0, 130.0, 138.0, 146.0, 166.0), (0.0, 1.0, 2.0, 3.0, 4.0))


@pytest.fixture
def frontend() -> str:
    return "native"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    spec: Spec = write_styled(root, "styled")
    add_critic(root, "styled", spec, QUANTILES)
    write_styled(root, "alone")
    return root


@pytest.fixture
async def running(start: Start) -> Running:
    return await start()


@pytest.fixture
async def client(running: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(running.target) as found:
        yield found


def mean(image: GeneratedImage) -> float:
    return float(image.array.astype(np.float32).mean())


@pytest.mark.parametrize("frontend", ["native", "grpcio"])
async def test_scores_are_the_critics_with_their_place_among_the_models_own_images(client: AsyncClient) -> None:
    labels = [seed % 3 for seed in range(70)]  # two calls
    images = await client.generate("styled", seeds=range(70), labels=labels, format="raw")
    scores = await client.score("styled", images, labels=labels)
    assert [each.score for each in scores] == [
        pytest.approx(mean(i) + 10 * k) for i, k in zip(images, labels, strict=True)
    ]
    for image, label, found in zip(images[:2], labels, scores, strict=False):
        assert (await client.score("styled", image, labels=label)).score == found.score, "neighbours change nothing"
        row = QUANTILES[label]
        assert found.percentile == pytest.approx(np.interp(found.score, row, [0, 25, 50, 75, 100]))
    assert {each.percentile for each in scores[2::3]} == {100.0}
    assert {(model.name, model.critic) for model in await client.models()} == {("alone", ""), ("styled", "mean")}


async def test_pictures_of_another_kind_are_refused_before_they_are_decoded_or_made_to_fit(
    client: AsyncClient, running: Running
) -> None:
    small, grey = np.full((2, 4), 100, np.uint8), np.full((4, 8), 60, np.uint8)
    refused = {
        "8 x 4 px, the model's images have 4 x 2; send that, or set fit to COVER or FILL": (grey, {"labels": 0}),
        r"image: it has colours, but the model makes grey": (np.eye(2, 4)[..., None] * [1.0, 0, 0], {"labels": 0}),
        "image: it is transparent in places": (np.zeros((2, 4, 4), np.uint8), {"labels": 0}),
        "labels: missing": (small, {}),
        "unknown|label": (small, {"labels": 3}),
    }
    for text, (image, options) in refused.items():
        with pytest.raises(InvalidRequest, match=text):
            await client.score("styled", image, **options)  # type: ignore[call-overload]
    with pytest.raises(InvalidRequest, match="'alone' has no critic: export it with --discriminator"):
        await client.score("alone", small, labels=0)
    with pytest.raises(InvalidRequest, match="image 2 of 2: 8 x 4 px"):
        await client.score("styled", [Image.fromarray(small), Image.fromarray(grey)], labels=0)
    assert (await client.score("styled", grey, labels=1, fit="fill")).score == 70
    assert (await client.score("styled", np.repeat(small[..., None], 3, 2), labels=0)).score == 100
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = ImageServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as none:
            await stub.Score(pb.ScoreRequest(model="styled", labels=["0"]))
        assert none.value.details() == "images: 0 given, at least 1"


async def test_scores_over_http_and_limits_of_one_call(start: Start) -> None:
    running = await start(max_images_per_call=2)
    async with client_of(running) as http, AsyncClient(running.target) as client:
        (image,) = await client.generate("styled", seeds=1, labels=2)
        path = "/v1/models/styled:score"
        one = (await http.post(f"{path}?label=2", content=image.data, headers={"Content-Type": "image/png"})).json()
        assert one["scores"][0]["score"] == pytest.approx(mean(image) + 20)
        form = await http.post(path, files={"image": image.data}, data={"labels": "three"})
        assert form.json()["scores"] == one["scores"]
        text = base64.b64encode(image.data).decode()
        both = await http.post(path, json={"images": [text, text], "labels": [0, 2]})
        assert [each["score"] for each in both.json()["scores"]] == [
            pytest.approx(mean(image)),
            one["scores"][0]["score"],
        ]
        many = await http.post(path, json={"images": [text] * 3, "label": 0})
        assert "at most 2 per call (max_images_per_call)" in many.json()["error"]
        neither: httpx.Response = await http.post(path, json={"label": 0})
        assert neither.json()["error"].startswith("image, images: give one of them")


async def test_images_to_be_scored_are_counted_as_they_were_sent(
    client: AsyncClient, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    take = Hold.take

    def noted(hold: Hold, nbytes: int) -> None:
        take(hold, nbytes)
        held.append(nbytes)

    monkeypatch.setattr(Hold, "take", noted)
    await client.score("styled", np.zeros((2, 4), np.uint8), labels=0)
    short = max(held)
    chunks = b"\0\0\0\0abCd\xe8\x8b\xc0\x5d" * 50_000  # before the pixels
    (image,) = await client.generate("styled", seeds=1, labels=0)
    async with grpc.aio.insecure_channel(running.target) as channel:
        long = image.data[:33] + chunks + image.data[33:]
        await ImageServiceStub(channel).Score(pb.ScoreRequest(model="styled", labels=["0"], images=[long]))
    assert max(held) > 2 * len(chunks) > short


def test_a_request_is_not_made_longer_by_what_it_must_not_have() -> None:
    edits = [pb.Edit(direction="0", strengths=[1.0] * 64)] * 33
    request = pb.GenerateRequest(model="styled", count=64, first_seed=0, best_of=64, edits=edits)
    with pytest.raises(InvalidRequestError, match="edits: 33 given, at most 32"):
        with_candidates(request, list(range(64)), 64, Limits.of(Settings(repository=Path())))
    assert is_large(pb.GenerateRequest(count=4, best_of=64))
    assert is_large(pb.GenerateRequest(count=16, rejection=pb.Rejection(min_percentile=5)))
    assert not is_large(pb.GenerateRequest(count=1, best_of=64))


def candidates(seed: int, tries: int) -> list[int]:
    return [(seed + number * 2654435769) % 2**32 for number in range(tries)]


@pytest.mark.parametrize("frontend", ["native", "grpcio"])
async def test_the_best_of_several_is_chosen_and_its_seed_gives_it_again(client: AsyncClient) -> None:
    seeds, labels = [3, 2**32 - 1, 8], [0, 1, 2]
    psis = [0.5, 1, 1]
    chosen = await client.generate("styled", seeds=seeds, labels=labels, best_of=4, truncation=psis, format="raw")
    for seed, label, psi, image in zip(seeds, labels, psis, chosen, strict=True):
        every = await client.generate("styled", seeds=candidates(seed, 4), labels=label, truncation=psi, format="raw")
        best = max(every, key=mean)
        assert image.choice is not None
        assert (image.seed, image.noise_seed, image.data) == (best.seed, best.noise_seed, best.data)
        assert image.choice.score == pytest.approx(mean(best) + 10 * label)
        assert (image.choice.candidates, image.choice.accepted) == (4, True)
        assert 0 <= image.choice.percentile <= 100
    (alone,) = await client.generate("styled", seeds=8, labels=2, best_of=4, truncation=1, format="raw")
    assert alone.data == chosen[2].data, "neighbours change nothing"
    streamed = [i async for i in client.generate_stream("styled", seeds=seeds, labels=0, best_of=2, format="raw")]
    assert {image.index for image in streamed} == {0, 1, 2}


async def test_candidates_come_one_by_one_until_one_is_accepted(client: AsyncClient) -> None:
    seeds = range(12)
    plain = [await client.generate("styled", seeds=candidates(seed, 3), labels=0, format="raw") for seed in seeds]
    ranks = [[np.interp(mean(each), QUANTILES[0], [0, 25, 50, 75, 100]) for each in images] for images in plain]
    found = await client.generate("styled", seeds=seeds, labels=0, min_percentile=60, max_tries=3, format="raw")
    for image, images, of in zip(found, plain, ranks, strict=True):
        first = next((place for place, rank in enumerate(of) if rank >= 60), None)
        assert image.choice is not None
        assert image.choice.accepted == (first is not None)
        assert image.choice.candidates == (3 if first is None else first + 1)
        assert image.data == images[int(np.argmax(of)) if first is None else first].data
    assert {image.choice.accepted for image in found if image.choice} == {True, False}
    once, again = [await client.generate("styled", seeds=seeds, labels=0, drs_percentile=90) for _ in range(2)]
    assert [image.seed for image in once] == [image.seed for image in again]
    assert len({image.choice.candidates for image in once if image.choice}) > 1


async def test_what_cannot_be_chosen_from_is_refused(running: Running) -> None:
    refused: dict[str, dict[str, Any]] = {
        "best_of: given together with rejection": {"count": 1, "best_of": 2, "rejection": pb.Rejection()},
        "best_of: 65; must be 1 to 64": {"count": 1, "best_of": 65},
        "best_of: given together with latents": {"latents": pb.Latents(data=bytes(16)), "best_of": 2},
        "rejection: no rule": {"count": 1, "rejection": pb.Rejection(max_tries=2)},
        "rejection.min_percentile: 101; must be 0 to 100": {"count": 1, "rejection": pb.Rejection(min_percentile=101)},
        "best_of: model 'alone' has no critic": {"count": 1, "best_of": 2, "model": "alone"},
        "labels: 2 given for 3 images": {"count": 3, "best_of": 2, "labels": ["0", "1"]},
        "100 images of 64 candidates each: 6400 images requested, at most 4096": {"count": 100, "best_of": 64},
    }
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = ImageServiceStub(channel)
        for text, fields in refused.items():
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await stub.Generate(pb.GenerateRequest(**{"model": "styled", "labels": ["0"], **fields}))
            assert text in str(error.value.details())


async def test_an_address_names_the_best_of_several(running: Running) -> None:
    async with client_of(running) as http:
        plain = await http.get("/v1/models/styled/image?seed=7&label=0")
        best = await http.get("/v1/models/styled/image?seed=7&label=0&best_of=8")
        assert best.headers["ganserve-candidates"] == "8"
        assert int(best.headers["ganserve-seed"]) in candidates(7, 8)
        assert best.headers["etag"] != plain.headers["etag"]
        known = {"If-None-Match": best.headers["etag"]}
        again = await http.get("/v1/models/styled/image?best_of=8&label=0&seed=7", headers=known)
        assert again.status_code == 304
        seed = best.headers["ganserve-seed"]
        assert (await http.get(f"/v1/models/styled/image?seed={seed}&label=0")).content == best.content
        both = await http.post("/v1/models/styled:generate", json={"seeds": [1, 2], "label": 0, "min_percentile": 0})
        assert [image["choice"]["candidates"] for image in both.json()["images"]] == [1, 1]


async def test_candidates_are_charged_and_what_a_rule_did_not_need_is_given_back(start: Start, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    digest = hashlib.sha256(b"secret").hexdigest()
    keys.write_text(f'[small]\nsha256 = "{digest}"\nroles = ["infer"]\nimages_per_minute = 20\n')
    keys.chmod(0o600)
    running = await start(api_keys=keys)
    async with AsyncClient(running.target, api_key="secret", retries=0) as client:
        for _ in range(3):  # 48 candidates if none was accepted; every first one is
            await client.generate("styled", seeds=1, labels=0, min_percentile=0)
        with pytest.raises(InvalidRequest, match="32 images in one request: the quota of key 'small' is 20"):
            await client.generate("styled", seeds=[1, 2], labels=0, best_of=16)
        await client.generate("styled", seeds=1, labels=0, best_of=16)
        with pytest.raises(Overloaded, match="quota of key 'small'"):
            await client.score("styled", [Image.new("L", (4, 2))] * 4, labels=0)
