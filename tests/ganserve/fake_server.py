"""What the client's and the command's tests share: a real gRPC server with a small ImageService behind it."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ganserve import AsyncClient, Client
from ganserve.v1 import images_pb2 as pb
from ganserve.v1 import images_pb2_grpc

FORMATS = {pb.IMAGE_FORMAT_PNG: "PNG", pb.IMAGE_FORMAT_JPEG: "JPEG", pb.IMAGE_FORMAT_WEBP: "WEBP"}


def image_of(seed: int, channels: int = 3) -> NDArray[np.uint8]:
    """(4, 6, channels) uint8, another for each seed."""
    return np.random.default_rng(seed).integers(0, 256, (4, 6, channels), np.uint8)


def encoded(pixels: NDArray[np.uint8], format: pb.ImageFormat.ValueType) -> pb.Image:
    """The message of an image."""
    height, width, channels = pixels.shape
    if format == pb.IMAGE_FORMAT_RAW:
        data = pixels.tobytes()
    else:
        buffer = io.BytesIO()
        Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).save(buffer, FORMATS[format])
        data = buffer.getvalue()
    return pb.Image(data=data, format=format, width=width, height=height, channels=channels)


def sent_image(request: pb.UpscaleRequest | pb.TranslateRequest) -> NDArray[np.uint8]:
    """The pixels of a request, (H, W, C)."""
    if request.raw_width:
        return np.frombuffer(request.image, np.uint8).reshape(request.raw_height, request.raw_width, -1)
    return np.atleast_3d(np.asarray(Image.open(io.BytesIO(request.image))))


def reports(request: pb.GenerateRequest) -> list[pb.StepReport]:
    """What a reply says of the steps of a request."""
    return [
        pb.StepReport(model=step.model, version=step.version or "1", tiles=2, largest_batch=4) for step in request.then
    ]


DIGITS = pb.Model(name="digits", width=6, height=4, channels=3, labels=[f"name {i}" for i in range(30)])


def _judge(model: pb.Model) -> pb.Judge:
    return pb.Judge(classes=model.labels, features=72, sha256="5eed", source="own-judge.onnx")


@dataclass
class FakeService(images_pb2_grpc.ImageServiceServicer):
    """Generates `image_of(seed)`, returns images twice as large or inverted, and keeps every request with its metadata.

    The model's name says what else happens: `fails-<STATUS CODE>` aborts with it, `grey` has one channel, `slow`
    answers when the caller has left. The first calls are refused with `refusals`, and the first streams end as `cuts`
    says: after so many images with that status. The request number `halts_at` is not answered. `sha256` is of `digits`,
    and so is `judge`, a graph, if there is one.
    """

    requests: list[Any] = field(default_factory=list)
    judge: bytes = b""
    metadata: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[grpc.StatusCode] = field(default_factory=list)
    cuts: list[tuple[int, grpc.StatusCode]] = field(default_factory=list)
    came: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    sha256: str = "5ead"
    halts_at: int | None = None

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateReply:
        await self._heed(request, context)
        images = [self._generate(request, index) for index in range(self.count(request))]
        timings = pb.Timings(queue_s=0.25, total_s=1.5)
        then = reports(request)
        version = request.version or "3"
        return pb.GenerateReply(
            images=images, model=request.model, version=version, largest_batch=8, timings=timings, then=then
        )

    async def GenerateStream(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateStreamReply]:
        await self._heed(request, context)
        cut, code = self.cuts.pop(0) if self.cuts else (-1, grpc.StatusCode.OK)
        try:
            for sent, index in enumerate(reversed(range(self.count(request)))):
                if sent == cut:
                    await context.abort(code, "cut")
                image = self._generate(request, index)
                yield pb.GenerateStreamReply(
                    index=index,
                    image=image,
                    model=request.model,
                    version="3",
                    batch_size=index % 5 + 1,
                    then=reports(request),
                )
        finally:
            self.left.set()

    async def Upscale(self, request: pb.UpscaleRequest, context: Any) -> pb.UpscaleReply:
        await self._heed(request, context)
        large = sent_image(request).repeat(2, 0).repeat(2, 1)
        image = encoded(large, request.encoding.format)
        return pb.UpscaleReply(image=image, model=request.model, version="1", tiles=4, largest_batch=2)

    async def UpscaleStream(self, request: pb.UpscaleRequest, context: Any) -> AsyncIterator[pb.UpscaleStreamReply]:
        reply = await self.Upscale(request, context)
        data = reply.image.data
        yield pb.UpscaleStreamReply(tiles_done=1, tiles=4)
        yield pb.UpscaleStreamReply(tiles_done=3, tiles=4, data=data[:7])
        yield pb.UpscaleStreamReply(tiles_done=4, tiles=4, data=data[7:])
        reply.image.ClearField("data")
        yield pb.UpscaleStreamReply(tiles_done=4, tiles=4, result=reply)

    async def Translate(self, request: pb.TranslateRequest, context: Any) -> pb.TranslateReply:
        await self._heed(request, context)
        image = encoded(255 - sent_image(request), request.encoding.format)
        return pb.TranslateReply(image=image, model=request.model, version="1", batch_size=3)

    async def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreReply:
        await self._heed(request, context)
        scores = [pb.ImageScore(score=len(image), percentile=50) for image in request.images]
        return pb.ScoreReply(scores=scores, model=request.model, version="3")

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsReply:
        await self._heed(request, context)
        faces = pb.Model(
            name="faces", version="3", state="READY", task="unconditional", architecture="dcgan", width=64, height=64
        )
        faces.channels = 3
        faces.knobs.add(name="seed", description="the same image", minimum=0, maximum=4294967295)
        faces.knobs.add(name="w", description="in place of a seed", shape=[16, 512])
        faces.knobs.add(name="truncation", description="psi", minimum=-2, maximum=2, default=0.7)
        broken = pb.Model(name="broken", state="UNAVAILABLE", reason="no such file", labels=["cat", "dog"])
        digits = pb.Model(version="1", state="READY")
        digits.MergeFrom(DIGITS)
        digits.task, digits.sha256 = "class-conditional", self.sha256
        if self.judge:
            digits.judge.CopyFrom(_judge(digits))
        digits.knobs.add(name="label", minimum=0, maximum=29)
        sketch = pb.Model(name="sketch", version="1", state="READY", task="image-to-image", scale=1, multiple_px=4)
        sketch.input_channels, sketch.channels = 1, 3
        photo = pb.Model(name="photo", version="1", state="READY", task="image-to-image", scale=1)
        photo.input_channels = photo.channels = 3
        return pb.ListModelsReply(models=[faces, broken, digits, sketch, photo])

    async def ListDirections(self, request: pb.ListDirectionsRequest, context: Any) -> pb.ListDirectionsReply:
        await self._heed(request, context)
        reply = pb.ListDirectionsReply(model=request.model, version="3", space="w", layers=16)
        reply.directions.add(name="smile", kind="file", sigma=1.5, per_layer=True)
        return reply

    async def GetJudge(self, request: pb.GetJudgeRequest, context: Any) -> pb.GetJudgeReply:
        await self._heed(request, context)
        return pb.GetJudgeReply(model=request.model, version="3", graph=self.judge, judge=_judge(DIGITS))

    async def _heed(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))
        if self.halts_at is None or len(self.requests) == self.halts_at:
            self.came.set()
        if len(self.requests) == self.halts_at:
            await asyncio.Event().wait()
        if self.refusals:
            await context.abort(self.refusals.pop(0), "refused")
        name, _, code = getattr(request, "model", "").partition("-")
        if name == "fails":
            await context.abort(grpc.StatusCode[code], f"because {code}")
        if name == "slow":
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()

    def count(self, request: pb.GenerateRequest) -> int:
        """Number of images of a request."""
        return request.count or len(request.seeds.values) or (len(request.latents.data) + len(request.ws.data)) // 16

    def _generate(self, request: pb.GenerateRequest, index: int) -> pb.Image:
        values = request.seeds.values
        seed = values[index] if values else request.first_seed + index
        image = encoded(image_of(seed, 1 if request.model == "grey" else 3), request.encoding.format)
        if not request.latents.data and not request.ws.data:
            image.seed = seed
        if request.noise_seeds:
            image.noise_seed = request.noise_seeds[index % len(request.noise_seeds)]
        if request.labels:
            label = request.labels[index % len(request.labels)]
            number = label.removeprefix("name ")
            image.label = int(number) if number.isdecimal() else 0
        return image


@dataclass
class Fake:
    """A running server: its address, and its service with the requests that it got."""

    server: str
    service: FakeService


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A grpc.aio server in a thread of its own, so that blocking clients can talk to it."""
    service = FakeService()
    started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        server = grpc.aio.server()
        images_pb2_grpc.add_ImageServiceServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stop = asyncio.Event()
        started.set_result((port, asyncio.get_running_loop(), stop))
        await stop.wait()
        await server.stop(0)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    port, loop, stop = started.result(30)
    yield Fake(f"127.0.0.1:{port}", service)
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)


class Call(Protocol):
    """`call("generate", "faces", seeds=3)`: what a client returns, streams as lists."""

    def __call__(self, method: str, *arguments: Any, retries: int = 0, **options: Any) -> Any: ...


@pytest.fixture(params=["sync", "asyncio"])
def call(request: pytest.FixtureRequest, fake: Fake) -> Call:
    """Each of the two clients in turn, connected to the fake server."""

    def sync(method: str, *arguments: Any, retries: int = 0, **options: Any) -> Any:
        with Client(fake.server, deadline_s=30, retries=retries) as client:
            answer = getattr(client, method)(*arguments, **options)
            return list(answer) if method == "generate_stream" else answer

    async def awaited(method: str, *arguments: Any, retries: int = 0, **options: Any) -> Any:
        async with AsyncClient(fake.server, deadline_s=30, retries=retries) as client:
            answer = getattr(client, method)(*arguments, **options)
            return [image async for image in answer] if method == "generate_stream" else await answer

    def asynchronous(method: str, *arguments: Any, **options: Any) -> Any:
        return asyncio.run(awaited(method, *arguments, **options))

    return sync if request.param == "sync" else asynchronous
