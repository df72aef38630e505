import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganserve.v1 import images_pb2 as pb
from server.api import images
from tests.server.api.images.test_upscale import noise


def request(world: Any, sent: Any, **fields: Any) -> pb.UpscaleRequest:
    return pb.UpscaleRequest(model="big", image=world.png(sent), **fields)


@pytest.mark.parametrize(
    ("fields", "size", "passes"),
    [
        ({"scale": 2}, (90, 60), 1),
        ({"scale": 1.5}, (68, 45), 1),
        ({"scale": 3}, (135, 90), 2),
        ({"scale": 2.4}, (108, 72), 1),
        ({"scale": 0.5}, (23, 15), 1),
        ({"scale": 7}, (315, 210), 3),
        ({"width": 60}, (60, 40), 1),
        ({"height": 100}, (150, 100), 2),
        ({"width": 90, "height": 90}, (90, 60), 1),
        ({"width": 31, "height": 90, "fit": pb.FIT_CONTAIN}, (31, 21), 1),
        ({"width": 90, "height": 90, "fit": pb.FIT_COVER}, (90, 90), 2),
        ({"width": 90, "height": 20, "fit": pb.FIT_FILL}, (90, 20), 1),
    ],
)
async def test_an_image_comes_back_at_the_size_that_is_asked_for(
    world: Any, fields: dict[str, Any], size: tuple[int, int], passes: int
) -> None:
    world.engine("big").shapes.clear()
    reply = await world.stub.Upscale(request(world, noise(30, 45), **fields))
    assert (reply.image.width, reply.image.height) == size
    assert world.pixels(reply.image).shape == (size[1], size[0], 3)
    tiles = sum(each["image"][0] for each in world.engine("big").shapes)
    assert tiles == reply.tiles
    assert (tiles > 15) == (passes > 1), "the image has 15 tiles"


async def test_the_networks_own_scale_is_not_resampled(world: Any) -> None:
    sent = noise(30, 45, 4)
    reply = await world.stub.Upscale(request(world, sent, scale=2))
    assert np.array_equal(world.pixels(reply.image), world.enlarge(sent))
    twice = await world.stub.Upscale(request(world, sent, width=180))
    assert np.array_equal(world.pixels(twice.image), world.enlarge(world.enlarge(sent)))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
async def test_another_size_is_resampled_by_lanczos_from_what_the_network_gives(world: Any, channels: int) -> None:
    coarse = noise(20, 30, channels)
    sent = np.asarray(coarse.repeat(5, axis=0).repeat(5, axis=1))
    reply = await world.stub.Upscale(request(world, sent, scale=1.5))
    whole = world.enlarge(sent)
    planes = [Image.fromarray(whole[..., c]).resize((225, 150), Image.Resampling.LANCZOS) for c in range(channels)]
    expected = np.stack([np.asarray(plane) for plane in planes], axis=2).astype(int)
    assert np.abs(world.pixels(reply.image) - expected).max() <= 1


async def test_what_an_image_covers_too_much_is_cut_off_at_both_sides_alike(world: Any) -> None:
    sent = noise(30, 60)
    sent[:, 15:45] = 200
    fields = {"width": 60, "height": 60, "fit": pb.FIT_COVER}
    reply = await world.stub.Upscale(request(world, sent, **fields))
    assert (world.pixels(reply.image) == 200).all()
    with Image.open(io.BytesIO(reply.image.data)) as image:
        assert image.size == (60, 60)


@pytest.mark.parametrize("format", [pb.IMAGE_FORMAT_JPEG, pb.IMAGE_FORMAT_WEBP, pb.IMAGE_FORMAT_RAW])
async def test_formats_that_are_encoded_whole_come_at_the_size_too(world: Any, format: Any) -> None:
    encoding = pb.Encoding(format=format)
    reply = await world.stub.Upscale(request(world, noise(30, 45), scale=1.2, encoding=encoding))
    assert world.pixels(reply.image).shape == (36, 54, 3)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"scale": 2, "width": 90}, "scale: 2 given with width or height"),
        ({"scale": -1}, "scale: -1; must be a number above 0"),
        ({"scale": float("nan")}, "scale: nan; must be a number above 0"),
        ({"scale": float("inf")}, "must be a number above 0"),
        ({"fit": pb.FIT_FILL}, "fit: fill given; it needs both width and height"),
        ({"width": 5, "fit": pb.FIT_COVER}, "fit: cover given; it needs both width and height"),
        ({"width": 5, "height": 5, "fit": 9}, "fit: 9 is unknown"),
        ({"scale": 1e6}, "at most 64000000 (max_image_px)"),
        ({"scale": 1e300}, "(max_image_px)"),
        ({"width": 4_000_000_000}, "(max_image_px)"),
    ],
)
async def test_sizes_that_contradict_or_exceed_are_refused(world: Any, fields: dict[str, Any], text: str) -> None:
    assert text in await world.refusal(world.stub.Upscale(request(world, noise(4, 4), **fields)))


async def test_the_limit_is_on_the_image_that_is_returned_not_on_what_the_network_gives(serve: Any) -> None:
    async with serve(max_image_px=8000) as world:
        sent = noise(70, 70)
        refused = await world.refusal(world.stub.Upscale(request(world, sent)))
        assert "140 x 140 = 19600 px, at most 8000 (max_image_px)" in refused
        reply = await world.stub.Upscale(request(world, sent, scale=1.2))
        assert (reply.image.width, reply.image.height) == (84, 84)


async def test_what_is_computed_is_charged_also_if_little_of_it_is_returned(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged: list[tuple[int, int]] = []
    monkeypatch.setattr(images, "charge", lambda *amount: charged.append(amount))
    await world.stub.Upscale(request(world, noise(30, 40), scale=0.1))
    await world.stub.Upscale(request(world, noise(30, 40), scale=3))
    await world.stub.Generate(pb.GenerateRequest(model="faces", count=2, then=[pb.Step(model="big")], size=1))
    await world.stub.Generate(pb.GenerateRequest(model="faces", count=2, size=20))
    assert charged == [(1, 60 * 80), (1, 120 * 160), (2, 2 * 12 * 12), (2, 2 * 20 * 20)]
