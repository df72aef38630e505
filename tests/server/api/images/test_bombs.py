"""Small files that take long or much memory to decode."""

import io
import threading
import time
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from ganserve.v1 import images_pb2 as pb
from server.api.transport import GRPCIO, NATIVE
from server.images import header, workers


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan, 31 bytes or a few more, is repeated until there are `scans`."""
    output = io.BytesIO()
    Image.new("RGB", (side, side), (90, 120, 10)).save(output, "JPEG", progressive=True)
    data, marker = output.getvalue()[:-2], b"\xff\xda"
    return data + data[data.rindex(marker) :] * (scans - data.count(marker)) + b"\xff\xd9"


def upscale(image: bytes) -> pb.UpscaleRequest:
    return pb.UpscaleRequest(model="big", image=image)


async def test_a_jpeg_of_very_many_scans_is_rejected_before_it_is_decoded(world: Any) -> None:
    image = many_scans(2000, 5000)
    assert len(image) < 200_000
    started = time.monotonic()
    text = await world.refusal(world.stub.Upscale(upscale(image)))
    assert time.monotonic() - started < 2
    assert text == "image: JPEG of 5000 scans, at most 100; save it as a baseline JPEG"
    with_thumbnail = io.BytesIO()
    metadata = b"Exif\0\0" + image[:60_000]
    Image.new("RGB", (20, 20)).save(with_thumbnail, "JPEG", progressive=True, exif=metadata)
    await world.stub.Upscale(upscale(with_thumbnail.getvalue()))


@pytest.mark.parametrize("frontend", [GRPCIO, NATIVE])
async def test_decoding_that_takes_too_long_ends_with_the_limit(
    serve: Any, frontend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself, between two pieces: on a machine that is busy enough one piece might take so long that it is given
    up, which `test_workers` shows."""
    monkeypatch.setattr(workers, "GIVE_UP_TIMES", 1000.0)
    async with serve(frontend, codec_timeout_s=0.25, max_whole_px=1 << 24) as world:
        request = pb.TranslateRequest(model="styled", image=many_scans(3900, 100))
        text = await world.refusal(world.stub.Translate(request))
        assert text == "image: decoding or encoding it takes more than 0.25 s (codec_timeout_s)"


@pytest.mark.parametrize("frontend", [GRPCIO, NATIVE])
async def test_the_decoding_of_callers_who_left_does_not_hold_up_the_next(serve: Any, frontend: str) -> None:
    async with serve(frontend, max_whole_px=1 << 24) as world:
        request = pb.TranslateRequest(model="styled", image=many_scans(3900, 100))
        calls = [world.stub.Translate(request, timeout=0.2) for _ in range(3)]
        for call in calls:
            await world.refusal(call, grpc.StatusCode.DEADLINE_EXCEEDED)
        started = time.monotonic()
        await world.stub.Upscale(upscale(world.png(np.zeros((8, 8, 3), np.uint8))))
        assert time.monotonic() - started < 3, "three of them take three times as long"


async def test_a_long_file_is_looked_through_beside_the_loop(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def noting(data: bytes) -> header.Header:
        threads.append(threading.current_thread().name)
        return read(data)

    read = header.read_header
    monkeypatch.setattr(header, "read_header", noting)
    image = world.png(np.zeros((8, 8, 3), np.uint8)) + bytes(header.LONG_BYTES)
    await world.stub.Upscale(upscale(image))
    reference = pb.TranslateRequest(model="styled", image=image, reference=image)
    await world.refusal(world.stub.Translate(reference))
    assert threads == ["codec"] * 3
