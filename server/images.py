"""ImageService: protobuf <-> seeds, labels and pixels.

Raises the errors of `server.errors`; whoever registers the service maps them to status codes.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Collection
from concurrent.futures import Executor
from contextlib import aclosing
from typing import Protocol

from models.spec import Spec
from protos import images_pb2 as pb
from protos.images_pb2_grpc import ImageServiceServicer
from server.calls import Context, deadline
from server.codecs import Encoding, raw_header
from server.drawing import Drawn, Order, draw
from server.errors import ImageTooLarge, InvalidRequest
from server.loading import Model
from server.orders import is_large, read_encoding, read_order
from server.picture_header import Format, read_header
from server.repository import Entry
from server.settings import Settings
from server.upscaling import Layout, Room, Source, Upscaled, upscale

_WIRE_FORMATS = {
    Format.PNG: pb.IMAGE_FORMAT_PNG,
    Format.JPEG: pb.IMAGE_FORMAT_JPEG,
    Format.WEBP: pb.IMAGE_FORMAT_WEBP,
    Format.RAW: pb.IMAGE_FORMAT_RAW,
}
_FEWER = "use GenerateStream, or ask for fewer images"


class ImageMetrics(Protocol):
    """What the service reports; seconds are of one picture."""

    def decoded(self, model: str, seconds: float) -> None: ...

    def encoded(self, model: str, seconds: float) -> None: ...

    def served(self, model: str, images: int, pixels: int) -> None: ...


class Models(Protocol):
    """What the service asks of the repository."""

    def get(self, name: str, version: str = "") -> Model: ...

    def index(self) -> list[Entry]: ...


class ImageService(ImageServiceServicer):
    """Pictures by seed and label, pictures in and pictures out."""

    def __init__(self, repository: Models, settings: Settings, codecs: Executor, metrics: ImageMetrics) -> None:
        self._repository = repository
        self._settings = settings
        self._codec_pool = codecs
        self._metrics = metrics
        self._room = Room(settings.max_queue_bytes)

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateReply:
        """All images, in the order asked."""
        started = time.perf_counter()
        model, spec = self._find(request.model, request.version, draws=True)
        order = await self._order(request, spec)
        self._check_reply(order)
        images: dict[int, Drawn] = {}
        nbytes = 0
        async with aclosing(draw(model, order, deadline(context), self._codec_pool)) as drawings:
            async for drawn in drawings:
                images[drawn.index] = drawn
                nbytes += len(drawn.data)
                self._check_message(nbytes, _FEWER)
        reply = pb.GenerateReply(model=model.name, version=str(model.version))
        for index in range(order.n):
            self._fill(reply.images.add(), model, order, images[index])
        reply.largest_batch = max(drawn.batch_size for drawn in images.values())
        _fill_timings(reply.timings, images.values())
        reply.timings.total_s = time.perf_counter() - started
        return reply

    async def GenerateStream(
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncGenerator[pb.GenerateStreamReply, None]:
        """Each image as soon as it is ready."""
        started = time.perf_counter()
        model, spec = self._find(request.model, request.version, draws=True)
        order = await self._order(request, spec)
        async with aclosing(draw(model, order, deadline(context), self._codec_pool)) as drawings:
            async for drawn in drawings:
                self._check_message(len(drawn.data), "ask for another encoding")
                reply = pb.GenerateStreamReply(
                    index=drawn.index, model=model.name, version=str(model.version), batch_size=drawn.batch_size
                )
                self._fill(reply.image, model, order, drawn)
                _fill_timings(reply.timings, [drawn])
                reply.timings.total_s = time.perf_counter() - started
                yield reply

    async def Upscale(self, request: pb.UpscaleRequest, context: Context) -> pb.UpscaleReply:
        """The picture, enlarged or translated."""
        started = time.perf_counter()
        model, spec = self._find(request.model, request.version, draws=False)
        if request.raw_width or request.raw_height:
            header = raw_header(len(request.image), request.raw_width, request.raw_height)
        else:
            header = read_header(request.image)
        self._check_pixels("image", header.width, header.height)
        layout = Layout(spec, header, request.alpha != pb.ALPHA_POLICY_DROP)
        self._check_pixels("the enlarged image", layout.width, layout.height)
        encoding = read_encoding(request.encoding)
        encoding.check(layout.width, layout.height, layout.channels)
        if encoding.format is Format.RAW:
            self._check_message(layout.height * layout.width * layout.channels, "ask for an encoded picture")
        source = Source(request.image, header)
        with self._room.hold(layout.held_bytes):
            made = await upscale(model, layout, source, encoding, deadline(context), self._codec_pool)
        self._check_message(len(made.data), "ask for JPEG or WebP, or send a smaller picture")
        return self._upscale_reply(model, made, encoding, time.perf_counter() - started)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsReply:
        """What the repository holds."""
        return pb.ListModelsReply(models=[_describe(entry) for entry in self._repository.index()])

    def _find(self, name: str, version: str, draws: bool) -> tuple[Model, Spec]:
        model = self._repository.get(name, version)
        spec = model.spec
        if spec is None or spec.tensors != "uint8":
            why = "has no manifest" if spec is None else f"was exported with tensors={spec.tensors}"
            raise InvalidRequest(f"model {name!r} {why}: the image API cannot serve it; use ModelInfer")
        if spec.task.draws is not draws:
            right, takes = ("Generate", "seeds or latents") if spec.task.draws else ("Upscale", "a picture")
            raise InvalidRequest(f"model {name!r} is {spec.task}: it takes {takes}; use {right}")
        return model, spec

    async def _order(self, request: pb.GenerateRequest, spec: Spec) -> Order:
        limit = self._settings.max_images_per_call
        if is_large(request):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._codec_pool, read_order, request, spec, limit)
        return read_order(request, spec, limit)

    def _check_reply(self, order: Order) -> None:
        """Refuses, before any work, what could not be sent."""
        if order.encoding.format is Format.RAW:
            self._check_message(order.n * order.image_bytes, _FEWER)

    def _check_message(self, nbytes: int, advice: str) -> None:
        limit = self._settings.max_message_bytes
        if nbytes > limit:
            raise ImageTooLarge(f"the reply is {nbytes} bytes or more, at most {limit} (max_message_bytes); {advice}")

    def _check_pixels(self, what: str, width: int, height: int) -> None:
        limit = self._settings.max_image_px
        if width * height > limit:
            px = width * height
            raise ImageTooLarge(f"{what}: {width} x {height} = {px} px, at most {limit} (max_image_px)")

    def _fill(self, image: pb.Image, model: Model, order: Order, drawn: Drawn) -> None:
        """Puts a picture into the reply, and counts it."""
        if order.encoding.format is not Format.RAW:
            self._metrics.encoded(model.name, drawn.encode_s)
        self._metrics.served(model.name, 1, drawn.shape[0] * drawn.shape[1])
        _fill_image(image, drawn, order.encoding)
        if order.seeds is not None:
            image.seed = order.seeds[drawn.index]
        if order.labels is not None:
            image.label = int(order.labels[drawn.index])

    def _upscale_reply(self, model: Model, made: Upscaled, encoding: Encoding, total_s: float) -> pb.UpscaleReply:
        self._metrics.decoded(model.name, made.decode_s)
        self._metrics.encoded(model.name, made.encode_s)
        self._metrics.served(model.name, 1, made.shape[0] * made.shape[1])
        reply = pb.UpscaleReply(
            model=model.name, version=str(model.version), tiles=made.tiles, largest_batch=made.largest_batch
        )
        _fill_image(reply.image, made, encoding)
        _fill_timings(reply.timings, [made])
        reply.timings.decode_s = made.decode_s
        reply.timings.total_s = total_s
        return reply


def _fill_image(image: pb.Image, made: Drawn | Upscaled, encoding: Encoding) -> None:
    # In place: a message given to another's constructor is copied, and this one may be 200 MB.
    image.data = made.data
    image.format = _WIRE_FORMATS[encoding.format]
    image.height, image.width, image.channels = made.shape


def _fill_timings(timings: pb.Timings, made: Collection[Drawn | Upscaled]) -> None:
    """Each phase at its longest."""
    timings.queue_s = max(one.queue_s for one in made)
    timings.compute_s = max(one.compute_s for one in made)
    timings.encode_s = max(one.encode_s for one in made)


def _describe(entry: Entry) -> pb.Model:
    model = pb.Model(
        name=entry.name,
        version=str(entry.version) if entry.version else "",
        state=entry.state,
        reason=entry.reason,
        max_batch_size=entry.max_batch_size,
    )
    spec = entry.spec
    if spec is not None:
        model.task = spec.task
        model.architecture = spec.architecture
        model.labels.extend(spec.labels)
        model.latent_size = spec.latent_size
        model.scale = spec.scale
        model.height, model.width, _ = spec.image_shape
        model.truncation = spec.truncation_default is not None
        model.licence = spec.provenance.licence
        model.source = spec.provenance.source
    return model
