import asyncio
import io
import re
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image, ImageCms

from ganserve.v1 import images_pb2 as pb
from server.images.cutouts import SEEN_ALPHA

RAW = pb.Encoding(format=pb.IMAGE_FORMAT_RAW)


def noise(height: int, width: int, channels: int = 3) -> Any:
    """With alpha, no pixel is hidden."""
    pixels = np.random.RandomState(height + width).randint(0, 256, (height, width, channels)).astype(np.uint8)
    if channels in (2, 4):
        pixels[..., -1] |= SEEN_ALPHA
    return pixels


def sent(pixels: Any, model: str = "styled", **fields: Any) -> pb.TranslateRequest:
    """The image as raw pixels, to come back as such."""
    height, width, _ = pixels.shape
    return pb.TranslateRequest(
        model=model, image=pixels.tobytes(), raw_width=width, raw_height=height, **{"encoding": RAW, **fields}
    )


async def test_an_image_of_every_size_comes_back_whole_through_a_network_with_a_multiple(world: Any) -> None:
    sizes = [(height, width) for height in range(1, 10) for width in range(1, 10)]
    pictures = [noise(height, width) for height, width in sizes]
    replies = await asyncio.gather(*(world.stub.Translate(sent(picture)) for picture in pictures))
    for (height, width), picture, reply in zip(sizes, pictures, replies, strict=True):
        assert reply.image.data == picture.tobytes()
        assert (reply.image.height, reply.image.width, reply.image.channels) == (height, width, 3)
    assert {(reply.model, reply.version) for reply in replies} == {("styled", "3")}
    assert all(reply.timings.total_s > reply.timings.compute_s > 0 for reply in replies)


async def test_images_of_one_padded_size_share_batches(world: Any) -> None:
    engine = world.engine("styled")
    engine.gate.clear()
    calls = [asyncio.ensure_future(world.stub.Translate(sent(noise(4, 4))))]
    await world.until(lambda: engine.running)
    for height, width in ((5, 8), (8, 5), (7, 7), (9, 9)):
        calls.append(asyncio.ensure_future(world.stub.Translate(sent(noise(height, width)))))
    await world.until(lambda: world.queued("styled") == 4)
    engine.gate.set()
    replies = await asyncio.gather(*calls)
    assert sorted(shape["image"] for shape in engine.shapes) == [(1, 4, 4, 3), (1, 12, 12, 3), (3, 8, 8, 3)]
    assert [reply.batch_size for reply in replies] == [1, 3, 3, 3, 1]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
async def test_alpha_is_put_back_and_grey_goes_in_as_three_channels(world: Any, channels: int) -> None:
    picture = noise(5, 7, channels)
    reply = await world.stub.Translate(pb.TranslateRequest(model="styled", image=world.png(picture)))
    colours = picture[..., :1].repeat(3, axis=2) if channels < 3 else picture[..., :3]
    alpha = [picture[..., -1:]] if channels in (2, 4) else []
    assert np.array_equal(world.pixels(reply.image), np.concatenate([colours, *alpha], axis=2))


async def test_alpha_is_dropped_where_asked(world: Any) -> None:
    picture = noise(5, 7, 4)
    reply = await world.stub.Translate(sent(picture, alpha=pb.ALPHA_POLICY_DROP))
    assert reply.image.data == picture[..., :3].tobytes()


async def test_a_network_may_give_other_channels_than_it_takes(world: Any) -> None:
    photo, sketch = noise(6, 6, 3), noise(9, 3, 1)
    drawn = await world.stub.Translate(sent(photo, "sketched"))
    assert drawn.image.data == photo.mean(axis=2).astype(np.uint8).tobytes()
    assert drawn.image.channels == 1
    coloured = await world.stub.Translate(sent(sketch, "coloured"))
    assert coloured.image.data == sketch.repeat(3, axis=2).tobytes()


async def test_a_network_of_four_channels_sees_the_alpha_and_draws_its_own(world: Any) -> None:
    picture = noise(3, 5, 4)
    assert (await world.stub.Translate(sent(picture, "cut-out"))).image.data == picture.tobytes()
    opaque = (await world.stub.Translate(sent(picture[..., :3], "cut-out"))).image
    assert np.array_equal(world.pixels(opaque)[..., 3], np.full((3, 5), 255))
    dropped = (await world.stub.Translate(sent(picture, "cut-out", alpha=pb.ALPHA_POLICY_DROP))).image
    assert dropped.data == picture[..., :3].tobytes()


async def test_alpha_that_the_network_takes_is_not_put_back(world: Any) -> None:
    picture = noise(3, 5, 4)
    made = world.pixels((await world.stub.Translate(sent(picture, "masked"))).image)
    assert np.array_equal(made, picture.mean(axis=2).astype(np.uint8)[..., None].repeat(3, axis=2))


async def test_grey_saved_as_colours_is_grey_and_colours_are_rejected_by_a_grey_network(world: Any) -> None:
    grey = noise(8, 8, 1)
    made = await world.stub.Translate(sent(grey.repeat(3, axis=2), "coloured"))
    assert made.image.data == grey.repeat(3, axis=2).tobytes()
    text = await world.refusal(world.stub.Translate(sent(noise(8, 8, 3), "coloured")))
    assert text == "image: it has colours, but the model accepts only grey images of one channel"
    assert world.waiting("coloured") == 0


async def test_a_turned_photograph_comes_back_upright_with_its_profile(world: Any) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 8
    output = io.BytesIO()
    picture = noise(5, 9)
    Image.fromarray(picture).save(output, "PNG", exif=exif, icc_profile=icc)
    reply = await world.stub.Translate(pb.TranslateRequest(model="styled", image=output.getvalue()))
    assert np.array_equal(world.pixels(reply.image), np.rot90(picture))
    with Image.open(io.BytesIO(reply.image.data)) as image:
        assert image.info["icc_profile"] == icc


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
async def test_the_answer_comes_in_the_format_asked(world: Any, kind: str) -> None:
    wanted = pb.ImageFormat.Value(f"IMAGE_FORMAT_{kind}")
    reply = await world.stub.Translate(sent(noise(5, 5), encoding=pb.Encoding(format=wanted)))
    assert reply.image.format == wanted
    assert world.pixels(reply.image).shape == (5, 5, 3)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (pb.TranslateRequest(model="faces", image=b"x"), "is unconditional: it takes seeds or latents; use Generate"),
        (pb.TranslateRequest(model="big", image=b"x"), "is super-resolution: it takes an image; use Upscale"),
        (pb.TranslateRequest(model="plain", image=b"x"), "has no manifest.* use ModelInfer"),
        (sent(noise(2, 2), "deep"), "takes 5 channels, which is not an image; use ModelInfer"),
        (pb.TranslateRequest(model="styled"), "image: 0 bytes that is empty"),
        (pb.TranslateRequest(model="styled", image=b"GIF89a"), "must be PNG, JPEG or WebP"),
        (pb.TranslateRequest(model="styled", image=bytes(12), raw_width=4), "raw_width, raw_height: 4 x 0"),
        (sent(noise(2, 2), encoding=pb.Encoding(quality=10)), r"PNG accepts 0\.\.9"),
        (sent(noise(2, 2, 4), encoding=pb.Encoding(format=pb.IMAGE_FORMAT_JPEG)), "set alpha to DROP"),
    ],
)
async def test_what_a_translator_cannot_take_is_rejected(world: Any, request_: pb.TranslateRequest, text: str) -> None:
    assert re.search(text, await world.refusal(world.stub.Translate(request_)))


async def test_an_image_for_a_translator_is_sent_to_translate(world: Any) -> None:
    upscale = world.stub.Upscale(pb.UpscaleRequest(model="styled", image=b"x"))
    assert "is image-to-image: it takes an image; use Translate" in await world.refusal(upscale)
    generate = world.stub.Generate(pb.GenerateRequest(model="styled", count=1))
    assert "use Translate" in await world.refusal(generate)


async def test_an_unknown_model_is_not_found(world: Any) -> None:
    await world.refusal(world.stub.Translate(sent(noise(2, 2), "none")), grpc.StatusCode.NOT_FOUND)


async def test_images_beyond_the_limits_are_rejected_as_sent_and_as_padded(serve: Any) -> None:
    async with serve(max_whole_px=64, max_image_px=100) as world:
        text = await world.refusal(world.stub.Translate(sent(noise(9, 7))))
        assert text == "image, in one piece: 8 x 12 = 96 px, at most 64 (max_whole_px)"
        text = await world.refusal(world.stub.Translate(sent(noise(11, 11))))
        assert text == "image: 11 x 11 = 121 px, at most 100 (max_image_px)"
        await world.stub.Translate(sent(noise(7, 7)))


async def test_raw_answers_above_the_message_limit_are_rejected_before_the_work(serve: Any) -> None:
    async with serve(max_message_bytes=1 << 16) as world:
        text = await world.refusal(world.stub.Translate(pb.TranslateRequest(
            model="coloured", image=world.png(np.zeros((160, 160, 1), np.uint8)), encoding=RAW
        )))  # fmt: skip
        assert "76800 bytes or more, at most 65536 (max_message_bytes)" in text
        assert world.engine("coloured").batches == []


async def test_images_that_others_memory_leaves_no_room_for_are_rejected_at_once(serve: Any) -> None:
    async with serve(max_held_bytes=20_000) as world:
        world.engine("styled").gate.clear()
        first = world.stub.Translate(sent(noise(30, 30)))
        await world.until(lambda: world.engine("styled").running)
        text = await world.refusal(world.stub.Translate(sent(noise(30, 30))), grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert "limit 20000 (max_held_bytes)" in text
        world.engine("styled").gate.set()
        await first


async def test_a_deadline_ends_the_wait_and_what_was_not_run_is_dropped(world: Any) -> None:
    engine = world.engine("styled")
    engine.gate.clear()
    busy = asyncio.ensure_future(world.stub.Translate(sent(noise(4, 4))))
    await world.until(lambda: engine.running)
    late = world.stub.Translate(sent(noise(5, 5)), timeout=0.3)
    await world.refusal(late, grpc.StatusCode.DEADLINE_EXCEEDED)
    await world.until(lambda: world.waiting("styled") == 0)
    engine.gate.set()
    await busy
    assert engine.batches == [1]


async def test_phases_and_pixels_are_counted(world: Any) -> None:
    await world.stub.Translate(sent(noise(10, 10)))
    page = world.metrics.render().decode()
    for line in ("decode_seconds_count", "images_total"):
        assert f'ganserve_{line}{{model="styled"}} 1\n' in page
    assert 'ganserve_pixels_total{model="styled"} 100\n' in page


@pytest.mark.parametrize(
    ("labels", "added"), [(["Blond_Hair", "Male"], 6), (["2", "dark"], 5), ([""], 0), (["dark", "Male", "1"], 7)]
)
async def test_the_attributes_that_are_named_and_no_others_go_in(world: Any, labels: list[str], added: int) -> None:
    picture = noise(5, 7) // 2
    reply = await world.stub.Translate(sent(picture, "attributed", labels=labels))
    assert reply.image.data == (picture + added).tobytes()


async def test_images_with_other_attributes_share_a_batch_and_come_back_each_with_its_own(world: Any) -> None:
    engine, picture = world.engine("attributed"), noise(4, 4) // 2
    engine.gate.clear()
    calls = [asyncio.ensure_future(world.stub.Translate(sent(picture, "attributed", labels=[""])))]
    await world.until(lambda: engine.running)
    for labels in (["dark"], ["Male"], ["Blond_Hair"]):
        calls.append(asyncio.ensure_future(world.stub.Translate(sent(picture, "attributed", labels=labels))))
    await world.until(lambda: world.queued("attributed") == 3)
    engine.gate.set()
    replies = await asyncio.gather(*calls)
    assert [reply.image.data for reply in replies] == [(picture + added).tobytes() for added in (0, 1, 4, 2)]
    assert [reply.batch_size for reply in replies] == [1, 3, 3, 3]


@pytest.mark.parametrize(
    ("model", "labels", "text"),
    [
        ("attributed", [], r"labels: missing; give all attributes .*0\.\.2 or name \(dark, Blond_Hair, Male\), or one"),
        ("attributed", ["Bald"], r"labels: no class or attribute 'Bald'; the model has index 0\.\.2"),
        ("attributed", ["dark", ""], "labels: no class or attribute ''"),
        ("attributed", ["3"], "labels: no class or attribute '3'"),
        ("styled", ["dark"], "labels: 1 given, but the model has no attributes; leave them out"),
    ],
)
async def test_labels_that_do_not_fit_the_model_are_refused(
    world: Any, model: str, labels: list[str], text: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
        await world.stub.Translate(sent(noise(4, 4), model, labels=labels))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_generated_image_goes_on_with_the_attributes_of_its_step(world: Any) -> None:
    then = [pb.Step(model="attributed", labels=["Male"]), pb.Step(model="attributed", labels=["dark"])]
    plain = await world.stub.Generate(pb.GenerateRequest(model="faces", count=1, first_seed=3, encoding=RAW))
    changed = await world.stub.Generate(
        pb.GenerateRequest(model="faces", count=1, first_seed=3, encoding=RAW, then=then)
    )
    before = np.frombuffer(plain.images[0].data, np.uint8)
    assert changed.images[0].data == (before + np.uint8(5)).tobytes()
    for step, text in (
        (pb.Step(model="attributed"), r"step 2 \(model 'attributed'\): labels: missing"),
        (pb.Step(model="big", labels=["1"]), r"step 2 \(model 'big'\): labels: 1 given, but the model is super-res"),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=text):
            await world.stub.Generate(pb.GenerateRequest(model="faces", count=1, then=[step]))


async def test_a_network_of_one_size_refuses_others_by_name(world: Any) -> None:
    picture = noise(8, 12)
    assert (await world.stub.Translate(sent(picture, "one-size"))).image.data == picture.tobytes()
    text = "image: 9 x 8 px, but the model takes images of 12 x 8 px only; crop or resize it"
    with pytest.raises(grpc.aio.AioRpcError, match=text):
        await world.stub.Translate(sent(noise(8, 9), "one-size"))


async def test_the_list_of_models_names_attributes(world: Any) -> None:
    models = {model.name: model for model in (await world.stub.ListModels(pb.ListModelsRequest())).models}
    assert list(models["attributed"].labels) == ["dark", "Blond_Hair", "Male"]
    assert [(knob.name, knob.maximum) for knob in models["attributed"].knobs] == [("label", 2)]
    assert (models["one-size"].height, models["one-size"].width) == (8, 12)
