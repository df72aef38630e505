"""Cut-outs: what lies under transparency reaches no network, and so no visible pixel."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ganserve.v1 import images_pb2 as pb

Pixels = NDArray[np.uint8]
RAW = pb.Encoding(format=pb.IMAGE_FORMAT_RAW)
DISC = (220, 60, 40)
GREY = (90, 90, 90)
Y, X = np.mgrid[:48, :60]
DISTANCE = np.hypot(Y - 24, X - 30)


def cut_out(hidden: Any, soft: bool = False, colour: tuple[int, int, int] = DISC) -> Pixels:
    """A disc (48, 60, 4) of one colour on `hidden` (3,) or (48, 60, 3), whose edge is hard or 8 px wide."""
    alpha = np.clip((18 - DISTANCE) * 32, 0, 255) if soft else (DISTANCE < 18) * 255
    colours = np.where(alpha[..., None] > 0, colour, hidden)
    return np.concatenate([colours, alpha[..., None]], axis=2).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def palette(pixels: Pixels) -> bytes:
    """A PNG of two colours, of which the second is transparent."""
    image = Image.fromarray((pixels[..., 3] == 0).astype(np.uint8), "P")
    image.putpalette([*DISC, *pixels[0, 0, :3].tolist()])
    return saved(image, "PNG", transparency=b"\xff\x00")


NOISE = np.random.RandomState(0).randint(0, 256, (48, 60, 3))
FILES: dict[str, Callable[[Any], bytes]] = {
    "PNG": lambda hidden: saved(Image.fromarray(cut_out(hidden)), "PNG"),
    "PNG, soft edge": lambda hidden: saved(Image.fromarray(cut_out(hidden, soft=True)), "PNG"),
    "PNG, palette": lambda hidden: palette(cut_out(hidden)),
    "PNG, transparent colour": lambda hidden: saved(
        Image.fromarray(cut_out(hidden)[..., :3]), "PNG", transparency=tuple(np.ravel(hidden)[:3].tolist())
    ),
    "WebP": lambda hidden: saved(Image.fromarray(cut_out(hidden)), "WEBP", lossless=True, exact=True),
}


async def send(world: Any, model: str, image: bytes, **fields: Any) -> pb.Image:
    """What the model, an upscaler if it is "big", makes of the image."""
    reply: pb.UpscaleReply | pb.TranslateReply
    if model == "big":
        reply = await world.stub.Upscale(pb.UpscaleRequest(model=model, image=image, encoding=RAW, **fields))
    else:
        reply = await world.stub.Translate(pb.TranslateRequest(model=model, image=image, encoding=RAW, **fields))
    return reply.image


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("hidden", [(0, 0, 0), (0, 255, 0)], ids=str)
@pytest.mark.parametrize("model", ["big", "styled"])
async def test_a_network_sees_the_visible_colour_alone(world: Any, model: str, hidden: Any, kind: str) -> None:
    received = world.engine(model).received = []
    made = world.pixels(await send(world, model, FILES[kind](hidden)))
    assert (made[..., :3] == DISC).all()
    assert made[..., 3].min() == 0
    colours = np.unique(np.concatenate([image.reshape(-1, 3) for image in received]), axis=0)
    alpha = (colours == colours[:, :1]).all(axis=1)  # it goes in as grey
    assert colours[~alpha].tolist() == [list(DISC)]


@pytest.mark.parametrize("model", ["big", "styled"])
async def test_hidden_noise_changes_nothing_in_the_image_that_is_returned(world: Any, model: str) -> None:
    black, noisy = [await send(world, model, world.png(cut_out(hidden))) for hidden in ((0, 0, 0), NOISE)]
    assert black.data == noisy.data


async def test_a_grey_image_with_alpha_keeps_its_grey(world: Any) -> None:
    picture = np.ascontiguousarray(cut_out((255, 255, 255), colour=GREY)[..., [0, 3]])
    reply = await world.stub.Upscale(pb.UpscaleRequest(model="big", image=world.png(picture)))
    made = world.pixels(reply.image)
    assert made.shape == (96, 120, 2)
    assert (made[..., 0] == GREY[0]).all()


async def test_hidden_colours_do_not_make_a_grey_image_coloured(world: Any) -> None:
    made = world.pixels(await send(world, "coloured", world.png(cut_out(NOISE, colour=GREY))))
    assert (made[..., :3] == GREY).all()


async def test_without_alpha_the_colours_below_it_are_shown(world: Any) -> None:
    picture = cut_out(NOISE)
    made = await send(world, "big", world.png(picture), alpha=pb.ALPHA_POLICY_DROP)
    assert made.data == world.enlarge(picture[..., :3]).tobytes()
