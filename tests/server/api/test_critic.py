"""A generator with its critic behind both APIs of the real server: scores, and images chosen by them."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from PIL import Image

from artifact.spec import Spec
from ganserve import AsyncClient, GeneratedImage, InvalidRequest
from ganserve.v1 import images_pb2 as pb
from ganserve.v1.images_pb2_grpc import ImageServiceStub
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
