"""Test-time augmentation: the mean of eight ways is the same in tiles and whole, and counted as eight."""

from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest

from ganserve.v1 import images_pb2 as pb
from server.images.turns import TURNS, mean, turn, turn_back
from tests.server.api.images.test_upscale import noise

RAW = pb.Encoding(format=pb.IMAGE_FORMAT_RAW)


def smeared(image: Any) -> Any:
    """A network that treats no two sides alike, and sees one pixel to the left and two above."""
    values = image.astype(np.float32)
    left = np.concatenate([values[..., :, :1, :], values[..., :, :-1, :]], axis=-2)
    above = np.concatenate([values[..., :2, :, :], values[..., :-2, :, :]], axis=-3)
    made = (4 * values + 2 * left + above) / np.float32(7)
    made = made if image.dtype == np.float32 else np.rint(made).astype(np.uint8)
    return made.repeat(2, axis=-3).repeat(2, axis=-2)


def expected(image: Any, as_floats: bool) -> Any:
    """In one piece."""
    sent = image.astype(np.float32) / np.float32(255) if as_floats else image
    return np.rint(mean([smeared(turn(sent, n)) for n in range(TURNS)]) * np.float32(255))


def test_the_eight_ways_differ_and_each_is_undone() -> None:
    image = np.arange(24).reshape(4, 2, 3)
    ways = [turn(image, n) for n in range(TURNS)]
    assert len({way.tobytes() + bytes(way.shape) for way in ways}) == TURNS
    assert all(np.array_equal(turn_back(way, n), image) for n, way in enumerate(ways))


@pytest.mark.parametrize(("height", "width", "channels"), [(12, 15, 3), (40, 61, 3), (21, 17, 4), (18, 30, 1)])
@pytest.mark.parametrize("model", ["big", "old"])
async def test_the_mean_of_eight_ways_is_the_same_in_tiles_and_whole(
    world: Any, model: str, height: int, width: int, channels: int
) -> None:
    world.engine(model)._transform = smeared
    sent = noise(height, width, channels)
    request = pb.UpscaleRequest(model=model, image=world.png(sent), tta=True)
    reply = await world.stub.Upscale(request)
    assert np.array_equal(world.pixels(reply.image), expected(sent, as_floats=model == "big"))
    assert reply.tiles == sum(world.engine(model).batches)
    assert reply.tiles % TURNS == 0
    again = await world.stub.Upscale(request)
    assert again.image.data == reply.image.data


async def test_values_are_not_rounded_before_the_mean(world: Any) -> None:
    world.engine("big")._transform = smeared
    sent = noise(9, 9, 3)
    deep = pb.Encoding(format=pb.IMAGE_FORMAT_RAW, bits=16)
    reply = await world.stub.Upscale(pb.UpscaleRequest(model="big", image=world.png(sent), tta=True, encoding=deep))
    found = world.pixels(reply.image).astype(float) / 257
    exact = np.mean(
        [turn_back(smeared(turn(sent.astype(np.float32), n)), n).astype(np.float64) for n in range(TURNS)], axis=0
    )
    assert np.abs(found - exact).max() < 0.01


async def test_progress_counts_every_way_and_the_queue_holds_few(world: Any) -> None:
    request = pb.UpscaleRequest(model="big", image=world.png(noise(40, 40, 3)), tta=True)
    messages = [message async for message in world.stub.UpscaleStream(request)]
    done = [message.tiles_done for message in messages]
    assert done == sorted(done)
    assert done[-1] == messages[-1].tiles == TURNS * 16


async def test_it_is_refused_where_the_engine_takes_one_direction_only(world: Any) -> None:
    model = world.repository.get_model("one-size")
    spec = replace(model.spec, task=world.repository.get_model("big").spec.task, scale=1)
    world.repository._models["one-size"][3] = replace(model, spec=spec)
    request = pb.UpscaleRequest(model="one-size", image=world.png(noise(8, 12, 3)), tta=True)
    text = await world.refusal(world.stub.Upscale(request), grpc.StatusCode.INVALID_ARGUMENT)
    assert "tta: tiles of 12 x 8 px are turned to 8 x 12, which the model's engine does not take" in text


@pytest.mark.parametrize("channels", [3, 4])
async def test_a_translated_image_is_the_mean_of_eight_ways_and_keeps_its_alpha(world: Any, channels: int) -> None:
    world.engine("styled")._transform = lambda image: smeared(image)[..., ::2, ::2, :]
    picture = noise(5, 7, channels)
    reply = await world.stub.Translate(pb.TranslateRequest(model="styled", image=world.png(picture), tta=True))
    padded = np.pad(picture[..., :3], ((0, 3), (0, 1), (0, 0)), "reflect")
    assert np.array_equal(world.pixels(reply.image)[..., :3], expected(padded, as_floats=False)[:10:2, :14:2])
    assert np.array_equal(world.pixels(reply.image)[..., 3:], picture[..., 3:])
    assert sum(world.engine("styled").batches) == TURNS


@pytest.mark.parametrize(
    ("model", "labels", "drawn", "channels"), [("domains", ["cat"], "styles", 3), ("mapped", [], "label maps", 1)]
)
async def test_images_that_a_network_draws_have_no_mean(
    world: Any, model: str, labels: list[str], drawn: str, channels: int
) -> None:
    picture = world.png(noise(4, 4, channels) % 3)
    request = pb.TranslateRequest(model=model, image=picture, labels=labels, tta=True)
    text = await world.refusal(world.stub.Translate(request), grpc.StatusCode.INVALID_ARGUMENT)
    assert f"tta: the model draws images from {drawn}, and the mean of eight is blurred; leave it unset" in text
