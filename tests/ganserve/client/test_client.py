"""Both clients against a real server; `call` is the one and then the other."""

import asyncio
import inspect
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

import ganserve
from ganserve import (
    AsyncClient,
    Client,
    GenerateOptions,
    InvalidRequest,
    Knob,
    ServerError,
    StepReport,
    TranslateOptions,
    UpscaleOptions,
)
from ganserve.client import errors, messages
from ganserve.client.errors import CLASS_OF
from ganserve.v1 import images_pb2 as pb
from tests.ganserve.fake_server import Call, Fake, image_of

Code = grpc.StatusCode


def test_images_come_in_the_order_of_the_request_with_what_is_known_about_them(call: Call) -> None:
    images = call("generate", "faces", seeds=[9, 2], labels=["4"])
    assert [image.seed for image in images] == [9, 2]
    assert [image.index for image in images] == [0, 1]
    np.testing.assert_array_equal(images[0].array, image_of(9))
    found = images[0]
    assert (found.model, found.version, found.label, found.batch_size) == ("faces", "3", 4, 8)
    assert (found.timings.queue_s, found.timings.total_s) == (0.25, 1.5)


@pytest.mark.parametrize("format", ["png", "webp", "jpeg", "raw"])
def test_every_format_gives_an_array_and_an_image_of_the_same_pixels(call: Call, format: str) -> None:
    (image,) = call("generate", "faces", seeds=5, format=format)
    assert image.format == format
    assert (image.array.shape, image.array.dtype) == ((4, 6, 3), np.uint8)
    assert image.pil.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image.pil), image.array)
    if format in ("png", "raw"):
        np.testing.assert_array_equal(image.array, image_of(5))


@pytest.mark.parametrize("format", ["png", "raw"])
def test_a_grey_image_has_one_channel(call: Call, format: str) -> None:
    (image,) = call("generate", "grey", seeds=5, format=format)
    np.testing.assert_array_equal(image.array, image_of(5, channels=1))
    assert image.pil.mode == "L"


def test_the_request_says_what_was_given_and_no_more(call: Call, fake: Fake) -> None:
    call("generate", "faces", count=3, first_seed=7, truncation=0.5, format="jpeg", quality=80, version="2")
    request = fake.service.requests[-1]
    assert (request.count, request.first_seed, request.version) == (3, 7, "2")
    assert (list(request.truncations), request.encoding.quality) == ([0.5], 80)
    call("generate", "faces", count=1)
    request = fake.service.requests[-1]
    assert not request.HasField("first_seed")
    assert [*request.truncations, *request.noise_seeds, *request.labels] == []
    assert not request.encoding.HasField("quality")


@pytest.mark.parametrize("shape", [(2, 4), (4,)])
def test_latents_travel_as_little_endian_float32(call: Call, fake: Fake, shape: tuple[int, ...]) -> None:
    latents = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    images = call("generate", "faces", latents=latents)
    assert fake.service.requests[-1].latents.data == latents.astype("<f4").tobytes()
    assert len(images) == len(np.atleast_2d(latents))
    assert images[0].seed is None


def test_knobs_are_one_for_all_or_one_for_each(call: Call, fake: Fake) -> None:
    (image,) = call("generate", "faces", seeds=1, truncation=np.float32(0.25), noise_seeds=7)
    assert list(fake.service.requests[-1].truncations) == [0.25]
    assert image.noise_seed == 7
    images = call("generate_stream", "faces", seeds=[1, 2], truncation=[0.25, -1], noise_seeds=range(2))
    request = fake.service.requests[-1]
    assert (list(request.truncations), list(request.noise_seeds)) == ([0.25, -1], [0, 1])
    assert [image.noise_seed for image in images] == [1, 0]
    assert call("generate", "faces", seeds=1)[0].noise_seed is None


@pytest.mark.parametrize("how", ["generate", "generate_stream"])
def test_steps_are_models_with_or_without_a_version(call: Call, fake: Fake, how: str) -> None:
    (image,) = call(how, "faces", seeds=1, then="up")
    assert image.then == (StepReport("up", "1", 2, 4),)
    (image,) = call(how, "faces", seeds=1, then=["up", ("paint", "3")])
    assert [(step.model, step.version) for step in fake.service.requests[-1].then] == [("up", ""), ("paint", "3")]
    assert [(step.model, step.version) for step in image.then] == [("up", "1"), ("paint", "3")]
    assert call(how, "faces", seeds=1)[0].then == ()


@pytest.mark.parametrize(("shape", "per_layer", "n"), [((4,), False, 1), ((2, 4), False, 2), ((3, 2, 2), True, 3)])
def test_ws_travel_with_or_without_their_layers(
    call: Call, fake: Fake, shape: tuple[int, ...], per_layer: bool, n: int
) -> None:
    ws = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    images = call("generate", "faces", ws=ws)
    request = fake.service.requests[-1]
    assert (request.ws.data, request.ws.per_layer) == (ws.astype("<f4").tobytes(), per_layer)
    assert len(images) == n
    assert images[0].seed is None


def test_many_explicit_items_come_over_the_stream_too(call: Call, fake: Fake) -> None:
    assert len(call("generate", "faces", ws=np.zeros((100, 2, 2), np.float32), format="raw")) == 100
    assert fake.service.left.is_set()


@pytest.mark.parametrize("what", [{"seeds": range(200)}, {"count": 200, "first_seed": 0}])
def test_many_images_come_over_the_stream_and_are_put_in_order(call: Call, fake: Fake, what: dict[str, Any]) -> None:
    images = call("generate", "faces", format="raw", **what)
    assert fake.service.left.is_set()
    assert [image.seed for image in images] == list(range(200))
    assert [image.index for image in images] == list(range(200))


def test_a_stream_gives_images_as_they_are_ready(call: Call) -> None:
    images = call("generate_stream", "faces", seeds=[5, 6, 7])
    assert [(image.index, image.seed) for image in images] == [(2, 7), (1, 6), (0, 5)]
    assert [image.batch_size for image in images] == [3, 2, 1]


def test_leaving_a_stream_cancels_the_rest(fake: Fake) -> None:
    with Client(fake.server) as client:
        stream = client.generate_stream("faces", count=4_000_000_000, first_seed=0, format="raw")
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert fake.service.left.wait(30)


def test_leaving_a_stream_in_asyncio_cancels_the_rest(fake: Fake) -> None:
    async def leave() -> None:
        async with AsyncClient(fake.server) as client:
            stream = client.generate_stream("faces", count=4_000_000_000, first_seed=0, format="raw")
            await anext(stream)
            await stream.aclose()  # type: ignore[attr-defined]
            assert await asyncio.to_thread(fake.service.left.wait, 30)

    asyncio.run(leave())


def test_an_image_can_be_a_path_bytes_an_image_or_an_array(call: Call, tmp_path: Path) -> None:
    pixels = image_of(1)
    path = tmp_path / "in.png"
    Image.fromarray(pixels).save(path)
    for image in (path, str(path), path.read_bytes(), Image.fromarray(pixels), pixels):
        large = call("upscale", "sr", image)
        np.testing.assert_array_equal(large.array, pixels.repeat(2, 0).repeat(2, 1))
        assert (large.width, large.height, large.tiles, large.batch_size) == (12, 8, 4, 2)


def test_an_image_is_translated_whatever_it_comes_as(call: Call, fake: Fake) -> None:
    pixels = image_of(1)
    for image in (Image.fromarray(pixels), pixels):
        made = call("translate", "sketch", image, alpha="drop", quality=5, version="2")
        np.testing.assert_array_equal(made.array, 255 - pixels)
        assert (made.width, made.height, made.batch_size, made.model) == (6, 4, 3, "sketch")
        request = fake.service.requests[-1]
        assert (request.alpha, request.encoding.quality, request.version) == (pb.ALPHA_POLICY_DROP, 5, "2")
    with pytest.raises(InvalidRequest, match="alpha must be keep or drop"):
        call("translate", "sketch", pixels, alpha="invert")


def test_grey_and_transparent_arrays_keep_their_channels(call: Call) -> None:
    for pixels in (image_of(1, 4), image_of(1, 1), image_of(1, 1)[..., 0]):
        large = call("upscale", "sr", pixels, format="raw")
        np.testing.assert_array_equal(large.array, np.atleast_3d(pixels).repeat(2, 0).repeat(2, 1))


def test_a_photograph_is_turned_as_the_camera_held_it_and_keeps_its_colour_profile(call: Call, fake: Fake) -> None:
    image = Image.fromarray(image_of(1))
    image.getexif()[0x0112] = 6
    image.info["icc_profile"] = b"profile"
    assert call("upscale", "sr", image).array.shape == (12, 8, 3)
    assert b"iCCP" in fake.service.requests[-1].image


@pytest.mark.parametrize(
    ("mode", "sent"), [("P", "RGB"), ("1", "L"), ("CMYK", "RGB"), ("LA", "LA"), ("RGBA", "RGBA"), ("L", "L")]
)
def test_image_modes_that_no_server_takes_are_converted(mode: str, sent: str) -> None:
    request = messages.image_request(pb.UpscaleRequest, "sr", Image.new(mode, (3, 2)))
    assert Image.open(io.BytesIO(request.image)).mode == sent


def test_models_are_listed_with_state_and_reason(call: Call) -> None:
    faces, broken, _, sketch, *_ = call("models")
    assert (faces.name, faces.version, faces.state, faces.width) == ("faces", "3", "READY", 64)
    assert (broken.state, broken.reason, broken.labels) == ("UNAVAILABLE", "no such file", ("cat", "dog"))
    seed, w, truncation = faces.knobs
    assert seed == Knob("seed", "the same image", 0, 4294967295, None, ())
    assert (w.shape, w.minimum, truncation.default) == ((16, 512), None, pytest.approx(0.7))
    assert (sketch.input_channels, sketch.channels, sketch.multiple_px) == (1, 3, 4)


@pytest.mark.parametrize("code", [Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.ABORTED])
@pytest.mark.parametrize("method", ["generate", "generate_stream", "translate"])
def test_a_status_of_the_server_is_an_exception_with_its_code_and_text(
    call: Call, method: str, code: grpc.StatusCode
) -> None:
    what: dict[str, Any] = {"image": image_of(1)} if method == "translate" else {"seeds": 1}
    with pytest.raises(ServerError) as caught:
        call(method, f"fails-{code.name}", **what)
    assert type(caught.value) is CLASS_OF.get(code, ServerError)
    assert (caught.value.code, str(caught.value)) == (code, f"because {code.name}")
    assert caught.value.__suppress_context__


def test_the_exceptions_are_those_that_the_docstring_of_their_module_lists() -> None:
    listed: dict[grpc.StatusCode, object] = {}
    for line in (errors.__doc__ or "").splitlines():
        for name in re.findall(r"\b(?:[A-Z]+(?:_[A-Z]+)+|[A-Z]{7,})\b", line):
            listed[getattr(Code, name)] = getattr(errors, line.split()[1])
    assert listed == CLASS_OF
    assert set(Code) - set(CLASS_OF) == {
        Code.OK,
        Code.ABORTED,
        Code.ALREADY_EXISTS,
    }


def test_every_exception_of_the_tree_is_exported() -> None:
    for kind in {*CLASS_OF.values(), ServerError}:
        assert getattr(ganserve, kind.__name__) is kind


def test_a_call_that_takes_too_long_is_a_passed_deadline(call: Call, fake: Fake) -> None:
    with pytest.raises(ganserve.DeadlinePassed):
        call("generate", "slow", seeds=1, deadline_s=0.2)
    assert fake.service.left.wait(30)


def test_a_client_has_a_deadline_of_its_own(fake: Fake) -> None:
    with Client(fake.server, deadline_s=0.2) as client, pytest.raises(ganserve.DeadlinePassed):
        client.upscale("slow", image_of(1))


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with Client("127.0.0.1:1", retries=0) as client, pytest.raises(ganserve.Unavailable):
        client.models()


def test_a_message_that_the_server_refuses_by_size_names_the_setting() -> None:
    class TooLarge(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.RESOURCE_EXHAUSTED

        def details(self) -> str:
            return "SERVER: Received message larger than max (5 vs. 4)"

    found = errors.error_of(TooLarge())
    assert isinstance(found, InvalidRequest)
    assert "GANSERVE_MAX_MESSAGE_BYTES" in found.text


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ({}, "exactly one of seeds, count, latents and ws; got none"),
        ({"seeds": 1, "count": 2}, "got seeds, count"),
        ({"seeds": 1, "first_seed": 2}, "first_seed goes with count"),
        ({"seeds": -1}, "seeds must be 0..4294967295, got -1"),
        ({"count": 0}, "count must be 1..4294967295, got 0"),
        ({"latents": np.zeros((1, 2, 3), np.float32)}, "latents must be"),
        ({"latents": np.zeros((0, 2), np.float32)}, "latents must be"),
        ({"ws": np.zeros((1, 2, 3, 4), np.float32)}, r"ws must be \(n, w size\) or \(n, layers, w size\)"),
        ({"ws": np.zeros(2, np.complex64)}, "complex64"),
        ({"seeds": 1, "noise_seeds": [1, -1]}, "noise_seeds must be 0..4294967295, got -1"),
        ({"seeds": 1, "format": "gif"}, "format must be one of png, jpeg, webp, raw, got 'gif'"),
        ({"seeds": 1, "quality": 101}, "quality must be"),
    ],
)
def test_what_no_server_could_take_is_refused_before_it_is_sent(
    call: Call, fake: Fake, what: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidRequest, match=text):
        call("generate", "faces", **what)
    assert fake.service.requests == []


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((2, 2, 5), np.uint8),
        np.zeros((3, 20, 20), np.uint8),
        np.full((2, 2), 1.5, np.float32),
        np.full((2, 2), np.nan),
        np.zeros((0, 2), np.uint8),
        np.zeros((2, 2), np.int64),
        7,
    ],
)
def test_an_array_that_is_no_image_is_refused(call: Call, image: object) -> None:
    with pytest.raises(InvalidRequest, match="image"):
        call("upscale", "sr", image)


def test_an_upscaled_image_comes_in_pieces_with_progress(call: Call, fake: Fake) -> None:
    told: list[tuple[int, int]] = []

    def on_progress(done: int, tiles: int) -> None:
        told.append((done, tiles))

    large = call("upscale_stream", "sr", image_of(1), on_progress=on_progress, scale=3)
    assert told == [(1, 4), (3, 4), (4, 4), (4, 4)]
    np.testing.assert_array_equal(large.array, call("upscale", "sr", image_of(1)).array)
    assert fake.service.requests[0].scale == 3
    with pytest.raises(ganserve.DeadlinePassed, match=r"the server said nothing for 0\.2 s"):
        call("upscale_stream", "slow", image_of(1), deadline_s=0.2)


def test_a_size_goes_with_the_image_and_nonsense_is_not_sent(call: Call, fake: Fake) -> None:
    call("upscale", "sr", image_of(1), scale=1.5)
    call("upscale", "sr", image_of(1), width=30, height=20, fit="cover")
    found = [(each.scale, each.width, each.height, each.fit) for each in fake.service.requests]
    assert found == [(1.5, 0, 0, 0), (0.0, 30, 20, pb.FIT_COVER)]
    for options in ({"scale": 0}, {"scale": float("nan")}, {"width": 0}, {"height": 1 << 32}, {"fit": "squeeze"}):
        with pytest.raises(InvalidRequest, match=next(iter(options))):
            call("upscale", "sr", image_of(1), **options)
    assert len(fake.service.requests) == 2


def test_an_image_is_saved_as_its_suffix_says(call: Call, tmp_path: Path) -> None:
    (image,) = call("generate", "faces", seeds=5)
    image.save(tmp_path / "same.png")
    assert (tmp_path / "same.png").read_bytes() == image.data
    image.save(tmp_path / "other.jpg")
    with Image.open(tmp_path / "other.jpg") as saved:
        assert saved.format == "JPEG"
    with pytest.raises(ValueError, match=r"the suffix must be one of \.png"):
        image.save(tmp_path / "no.txt")


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    for name, method in inspect.getmembers(Client, inspect.isfunction):
        if not name.startswith("_"):
            other = getattr(AsyncClient, name)
            assert list(inspect.signature(method).parameters.values()) == list(
                inspect.signature(other).parameters.values()
            ), name


def test_an_unknown_option_is_a_type_error(call: Call, fake: Fake) -> None:
    with pytest.raises(TypeError, match="seed"):
        call("generate", "faces", seed=1)
    with pytest.raises(TypeError, match="seed"):
        call("generate_stream", "faces", seed=1)
    with pytest.raises(TypeError, match="zoom"):
        call("upscale", "sr", image_of(1), zoom=2)
    with pytest.raises(TypeError, match="scale"):
        call("translate", "sr", image_of(1), scale=2)
    assert fake.service.requests == []


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("method", "options", "builder"),
    [
        ("generate", GenerateOptions, messages.generate_request),
        ("upscale", UpscaleOptions, messages.upscale_request),
        ("translate", TranslateOptions, messages.translate_request),
    ],
)
def test_help_describes_every_option_of_a_method_and_no_other(
    client: type, method: str, options: Any, builder: Callable[..., object]
) -> None:
    keywords = {each.name for each in inspect.signature(builder).parameters.values() if each.kind is each.KEYWORD_ONLY}
    assert keywords == set(options.__annotations__)
    text = inspect.getdoc(getattr(client, method)) or ""
    described = set(re.findall(r"^    (\w+): ", text.partition("Args:\n")[2].partition("\nRaises:")[0], re.MULTILINE))
    assert described - {"model", "image", "deadline_s"} == keywords


def test_importing_ganserve_loads_neither_torch_nor_onnxruntime_nor_the_command() -> None:
    code = (
        "import sys, ganserve; print(*{'torch', 'onnxruntime', 'typer', 'rich', 'server', 'models'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_an_api_key_goes_with_every_call(fake: Fake) -> None:
    picture = image_of(1)
    with Client(fake.server, api_key="secret") as client:
        client.models()
        client.generate("faces", seeds=1)
        assert list(client.generate_stream("faces", seeds=1))
        client.upscale("sr", picture)
        client.translate("photo", picture)

    async def awaited() -> None:
        async with AsyncClient(fake.server, api_key="secret") as client:
            await client.models()
            assert [image async for image in client.generate_stream("faces", seeds=1)]

    asyncio.run(awaited())
    assert [sent.get("authorization") for sent in fake.service.metadata] == ["Bearer secret"] * 7


def test_without_a_key_none_is_sent(call: Call, fake: Fake) -> None:
    call("models")
    assert "authorization" not in fake.service.metadata[-1]


@pytest.mark.parametrize("key", ["", "two words", "new\nline", "größe"])
def test_a_key_that_no_header_can_hold_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="api_key must be printable ASCII"):
        Client(api_key=key)
