"""Translators with domains and styles: by seed, from a reference, in one batch."""

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from ganserve.v1 import images_pb2 as pb
from tests.server.api.images.test_translate import RAW, noise, sent

GREY = np.full((6, 6, 3), 77, np.uint8)


def expected(label: int, seed: int) -> int:
    """What the fake network fills an image with for a style by seed."""
    return 100 * label + int(np.random.RandomState(seed).randn() > 0)


async def test_styles_by_seed_and_from_references_share_a_batch(world: Any) -> None:
    engine, picture = world.engine("domains"), noise(4, 4)
    engine.gate.clear()
    calls = [asyncio.ensure_future(world.stub.Translate(sent(picture, "domains", labels=["cat"])))]
    await world.until(lambda: engine.running)
    wanted: list[dict[str, Any]] = [
        {"labels": ["dog"], "seed": 4},
        {"labels": ["wild"], "reference": world.png(GREY)},
        {"labels": ["1"], "seed": 2**32 - 1},
    ]
    for each in wanted:
        calls.append(asyncio.ensure_future(world.stub.Translate(sent(picture, "domains", **each))))
    await world.until(lambda: world.queued("domains") == 3)
    engine.gate.set()
    replies = await asyncio.gather(*calls)
    assert [reply.batch_size for reply in replies] == [1, 3, 3, 3]
    levels = [np.frombuffer(reply.image.data, np.uint8) for reply in replies]
    values = [expected(0, 0), expected(1, 4), 77, expected(1, 2**32 - 1)]
    for found, value in zip(levels, values, strict=True):
        assert set(found) == {value}
    assert [(reply.image.HasField("seed"), reply.image.seed, reply.image.label) for reply in replies] == [
        (True, 0, 0), (True, 4, 1), (False, 0, 2), (True, 2**32 - 1, 1)
    ]  # fmt: skip


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
async def test_the_middle_of_a_reference_of_any_size_and_channels_is_taken(world: Any, channels: int) -> None:
    pixels = np.zeros((40, 30, channels), np.uint8)
    pixels[:, 5:25] = 200  # the network takes 2 x 4 px: 15 rows of 30 in the middle
    pixels[..., -1] = 255 if channels in (2, 4) else pixels[..., -1]
    request = sent(noise(4, 4), "domains", labels=["cat"], reference=world.png(pixels))
    (level,) = set(np.frombuffer((await world.stub.Translate(request)).image.data, np.uint8))
    assert abs(int(level) - 200 * 20 / 30) < 12, "a third of it is black"


@pytest.mark.parametrize(
    ("model", "fields", "text"),
    [
        ("domains", {}, "labels: missing, but the model is class-conditional"),
        ("domains", {"labels": ["cat", "dog"]}, "labels: 2 given for 1 images"),
        ("domains", {"labels": ["bird"]}, r"labels: no class or attribute 'bird'; the model has index 0\.\.2"),
        ("domains", {"labels": ["cat"], "seed": 1, "reference": GREY}, "seed: 1 given together with reference"),
        ("domains", {"labels": ["cat"], "reference": b""}, "reference: image: 0 bytes that is empty; must be PNG"),
        ("domains", {"labels": ["cat"], "reference": b"GIF89a"}, "reference: image: 6 bytes that begins with"),
        ("styled", {"seed": 1}, "seed: 1 given, but the model takes no styles; leave it out"),
        ("attributed", {"labels": ["Male"], "reference": GREY}, "reference: given, but the model takes no styles"),
    ],
)
async def test_guidance_that_does_not_fit_is_refused(world: Any, model: str, fields: dict[str, Any], text: str) -> None:
    fields = {name: world.png(value) if value is GREY else value for name, value in fields.items()}
    with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
        await world.stub.Translate(sent(noise(4, 4), model, **fields))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_damaged_reference_is_named(world: Any) -> None:
    cut = world.png(noise(40, 40))[:-300]
    with pytest.raises(grpc.aio.AioRpcError, match="reference: image: "):
        await world.stub.Translate(sent(noise(4, 4), "domains", labels=["cat"], reference=cut))


async def test_a_step_after_a_generator_takes_the_style_of_seed_0(world: Any) -> None:
    request = pb.GenerateRequest(model="faces", count=1, first_seed=3, encoding=RAW)
    request.then.add(model="domains", labels=["dog"])
    reply = await world.stub.Generate(request)
    assert set(np.frombuffer(reply.images[0].data, np.uint8)) == {expected(1, 0)}


async def test_the_list_of_models_says_what_a_translator_takes(world: Any) -> None:
    models = {model.name: model for model in (await world.stub.ListModels(pb.ListModelsRequest())).models}
    knobs = models["domains"].knobs
    assert [(knob.name, knob.maximum, list(knob.shape)) for knob in knobs] == [
        ("label", 2, []), ("seed", 2**32 - 1, []), ("reference", 0, [2, 4, 3])
    ]  # fmt: skip
    assert "instead of a seed" in knobs[2].description


async def test_numbers_of_classes_that_a_label_map_cannot_have_are_refused(world: Any) -> None:
    labels = np.full((4, 4, 1), 2, np.uint8)
    labels[1, 3] = 255
    assert (await world.stub.Translate(sent(labels, "mapped"))).image.width == 4
    labels[2, 1] = 3
    text = r"image: class 3 at x 1, y 2; the model's label maps have 0\.\.2, and 255 for none of them"
    with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
        await world.stub.Translate(sent(labels, "mapped"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
