import asyncio
import io
from typing import Any

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


@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 16), (16, 17), (40, 61), (3, 90)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
async def test_an_image_of_any_size_and_kind_comes_back_enlarged_whole(
    world: Any, height: int, width: int, channels: int
) -> None:
    sent = noise(height, width, channels)
    reply = await world.stub.Upscale(pb.UpscaleRequest(model="big", image=world.png(sent)))
    assert np.array_equal(world.pixels(reply.image), world.enlarge(sent))
    assert (reply.image.height, reply.image.width, reply.image.channels) == (2 * height, 2 * width, channels)
    assert (reply.model, reply.version, reply.image.format) == ("big", "3", pb.IMAGE_FORMAT_PNG)
    assert 1 <= reply.largest_batch <= 4
    assert reply.timings.total_s > reply.timings.decode_s > 0


async def test_tiles_are_counted_and_alpha_doubles_them(world: Any) -> None:
    colours = await world.stub.Upscale(pb.UpscaleRequest(model="big", image=world.png(noise(24, 24, 3))))
    both = await world.stub.Upscale(pb.UpscaleRequest(model="big", image=world.png(noise(24, 24, 4))))
    assert (colours.tiles, both.tiles) == (4, 8)


async def test_an_opaque_alpha_stays_opaque_without_running(world: Any) -> None:
    sent = noise(24, 24, 4)
    sent[..., 3] = 255
    reply = await world.stub.Upscale(pb.UpscaleRequest(model="big", image=world.png(sent)))
    assert reply.tiles == 4
    assert np.array_equal(world.pixels(reply.image), world.enlarge(sent))
    assert world.waiting("big") == 0


async def test_alpha_is_dropped_where_asked(world: Any) -> None:
    sent = noise(20, 20, 4)
    request = pb.UpscaleRequest(model="big", image=world.png(sent), alpha=pb.ALPHA_POLICY_DROP)
    reply = await world.stub.Upscale(request)
    assert np.array_equal(world.pixels(reply.image), world.enlarge(sent[..., :3]))


@pytest.mark.parametrize("channels", [1, 3, 4])
async def test_raw_pixels_go_in_and_come_out(world: Any, channels: int) -> None:
    sent = noise(19, 33, channels)
    request = pb.UpscaleRequest(model="big", image=sent.tobytes(), raw_width=33, raw_height=19, encoding=RAW)
    reply = await world.stub.Upscale(request)
    assert reply.image.data == world.enlarge(sent).tobytes()


async def test_a_turned_photograph_comes_back_upright_with_its_profile(world: Any) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    output = io.BytesIO()
    sent = noise(20, 40)
    Image.fromarray(sent).save(output, "PNG", exif=exif, icc_profile=icc)
    reply = await world.stub.Upscale(pb.UpscaleRequest(model="big", image=output.getvalue()))
    assert np.array_equal(world.pixels(reply.image), world.enlarge(np.rot90(sent, -1)))
    with Image.open(io.BytesIO(reply.image.data)) as image:
        assert image.info["icc_profile"] == icc


async def test_tiles_of_images_of_different_sizes_share_batches(world: Any) -> None:
    engine = world.engine("big")
    engine.gate.clear()
    pictures = [noise(16, 16), noise(20, 16), noise(16, 20), noise(24, 24)]
    requests = [pb.UpscaleRequest(model="big", image=world.png(picture)) for picture in pictures]
    calls = [asyncio.ensure_future(world.stub.Upscale(requests[0]))]
    await world.until(lambda: engine.running)
    calls += [asyncio.ensure_future(world.stub.Upscale(request)) for request in requests[1:]]
    await world.until(lambda: world.queued("big") == 2 + 2 + 4)
    engine.gate.set()
    replies = await asyncio.gather(*calls)
    assert [reply.tiles for reply in replies] == [1, 2, 2, 4]
    assert engine.batches == [1, 4, 4]
    for reply, picture in zip(replies, pictures, strict=True):
        assert np.array_equal(world.pixels(reply.image), world.enlarge(picture))


async def test_a_caller_that_leaves_stops_its_tiles(world: Any) -> None:
    engine = world.engine("big")
    engine.gate.clear()
    call = world.stub.Upscale(pb.UpscaleRequest(model="big", image=world.png(noise(200, 200))))
    await world.until(lambda: 0 < world.waiting("big") < 625)
    call.cancel()
    await world.until(lambda: world.waiting("big") == 0)
    engine.gate.set()
    await world.stub.Upscale(pb.UpscaleRequest(model="big", image=world.png(noise(4, 4))))
    assert sum(engine.batches) < 30


async def test_phases_and_pixels_are_counted(world: Any) -> None:
    await world.stub.Upscale(pb.UpscaleRequest(model="big", image=world.png(noise(10, 10))))
    page = world.metrics.render().decode()
    for line in ("decode_seconds_count", "encode_seconds_count", "images_total"):
        assert f'ganserve_{line}{{model="big"}} 1\n' in page
    assert 'ganserve_pixels_total{model="big"} 400\n' in page
