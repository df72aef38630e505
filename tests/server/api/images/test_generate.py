import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ganserve.v1 import images_pb2 as pb
from server.api.generate_request import read_generate_request
from server.api.limits import Limits
from server.images.generate import window_of
from server.images.latent_space import LatentSpace
from server.settings import Settings
from tests.server.api.images.conftest import GENERATOR


def seeds(*values: int) -> pb.Seeds:
    return pb.Seeds(values=values)


async def test_each_seed_gives_its_image_in_the_request_asked(world: Any) -> None:
    asked = [7, 3, 4_294_967_295, 7, 0, 1]
    reply = await world.stub.Generate(pb.GenerateRequest(model="faces", seeds=seeds(*asked)))
    assert [image.seed for image in reply.images] == asked
    assert all(np.array_equal(world.pixels(image), world.face(image.seed)) for image in reply.images)
    assert (reply.model, reply.version) == ("faces", "3")
    assert 1 <= reply.largest_batch <= 4
    assert {(image.width, image.height, image.channels) for image in reply.images} == {(6, 6, 3)}
    assert {image.format for image in reply.images} == {pb.IMAGE_FORMAT_PNG}
    assert reply.timings.total_s > reply.timings.encode_s > 0


async def test_an_image_is_byte_identical_alone_and_in_a_full_batch(world: Any) -> None:
    alone = await world.stub.Generate(pb.GenerateRequest(model="faces", seeds=seeds(5)))
    many = await world.stub.Generate(pb.GenerateRequest(model="faces", seeds=seeds(*range(12))))
    assert alone.images[0].data == many.images[5].data


async def test_a_count_takes_seeds_from_the_first_on(world: Any) -> None:
    reply = await world.stub.Generate(pb.GenerateRequest(model="faces", count=3, first_seed=10))
    assert [image.seed for image in reply.images] == [10, 11, 12]


async def test_a_count_alone_draws_seeds_and_reports_them(world: Any) -> None:
    reply = await world.stub.Generate(pb.GenerateRequest(model="faces", count=2))
    first, second = reply.images
    assert second.seed == first.seed + 1
    assert np.array_equal(world.pixels(first), world.face(first.seed))


async def test_explicit_latents_have_no_seed(world: Any) -> None:
    sent = np.random.RandomState(0).randn(3, 8).astype("<f4")
    request = pb.GenerateRequest(model="faces", latents=pb.Latents(data=sent.tobytes()))
    reply = await world.stub.Generate(request)
    assert not any(image.HasField("seed") for image in reply.images)
    assert all(
        np.array_equal(world.pixels(image), world.generate(row)) for image, row in zip(reply.images, sent, strict=True)
    )


async def test_labels_and_truncation_reach_the_network(world: Any) -> None:
    request = pb.GenerateRequest(model="digits", seeds=seeds(1, 2), labels=["one", "0"], truncations=[0.5])
    reply = await world.stub.Generate(request)
    assert [image.label for image in reply.images] == [1, 0]
    expected = [world.face(seed, label, 0.5) for seed, label in ((1, 1), (2, 0))]
    assert all(np.array_equal(world.pixels(image), row) for image, row in zip(reply.images, expected, strict=True))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "RAW"])
async def test_images_come_in_the_format_asked(world: Any, kind: str) -> None:
    wanted = pb.ImageFormat.Value(f"IMAGE_FORMAT_{kind}")
    request = pb.GenerateRequest(model="faces", count=1, encoding=pb.Encoding(format=wanted))
    (image,) = (await world.stub.Generate(request)).images
    assert image.format == wanted
    assert world.pixels(image).shape == (6, 6, 3)


async def test_a_stream_sends_every_image_once_with_its_index(world: Any) -> None:
    replies = [reply async for reply in world.stub.GenerateStream(pb.GenerateRequest(model="faces", count=50))]
    assert sorted(reply.index for reply in replies) == list(range(50))
    first = next(reply.image.seed for reply in replies if reply.index == 0)
    for reply in replies:
        assert reply.image.seed == first + reply.index
        assert np.array_equal(world.pixels(reply.image), world.face(reply.image.seed))
        assert (reply.model, reply.version) == ("faces", "3")


async def test_a_caller_gets_in_while_another_waits_for_thousands(world: Any) -> None:
    engine = world.engine("faces")
    engine.gate.clear()
    many = asyncio.ensure_future(world.stub.Generate(pb.GenerateRequest(model="faces", count=1000)))
    await world.until(lambda: world.waiting("faces") > 900)
    one = asyncio.ensure_future(world.stub.Generate(pb.GenerateRequest(model="faces", seeds=seeds(1))))
    await world.until(lambda: world.waiting("faces") > 996)
    engine.gate.set()
    await one
    assert not many.done()
    assert len((await many).images) == 1000


async def test_a_caller_that_leaves_a_stream_drops_the_rest(world: Any) -> None:
    call = world.stub.GenerateStream(pb.GenerateRequest(model="faces", count=4000))
    await call.read()
    call.cancel()
    await world.until(lambda: world.waiting("faces") == 0)
    statistics = world.statistics("faces")
    await world.until(lambda: statistics.failures["CANCELED"] == 1)
    assert sum(world.engine("faces").batches) < 4000
    assert (await world.stub.Generate(pb.GenerateRequest(model="faces", count=1))).images


def test_few_images_are_computed_ahead_of_a_caller_who_has_them_made_large() -> None:
    batcher: Any = SimpleNamespace(max_batch_size=32)
    space, limits = LatentSpace(GENERATOR), Limits.of(Settings(repository=Path()))
    for size, window in ((0, 128), (2000, 11), (8000, 1)):
        job = read_generate_request(pb.GenerateRequest(count=4096, size=size), space, limits)
        assert window_of(batcher, job) == window
