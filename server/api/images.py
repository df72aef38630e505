"""ImageService: protobuf <-> seeds, labels and pixels.

Raises the errors of `server.errors`; whoever registers the service maps them to status codes.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Collection
from concurrent.futures import Executor
from contextlib import aclosing
from typing import Protocol

from artifact.spec import Spec, Task
from ganserve.v1 import images_pb2 as pb
from ganserve.v1.images_pb2_grpc import ImageServiceServicer
from server.api.calls import Context, deadline
from server.api.generate_request import is_large, read_encoding, read_order
from server.api.model_info import describe
from server.errors import ImageTooLarge, InvalidRequest
from server.images.channels import Layout, lay_out_translation, lay_out_upscale
from server.images.codecs import Encoding, raw_header
from server.images.generate import Drawn, Order, draw
from server.images.header import Format, Header, read_header
from server.images.memory import Room
from server.images.transform import Repainted, repaint
from server.repository.loader import Model
from server.repository.repository import IndexEntry
from server.settings import Settings

_WIRE_FORMATS = {
    Format.PNG: pb.IMAGE_FORMAT_PNG,
    Format.JPEG: pb.IMAGE_FORMAT_JPEG,
    Format.WEBP: pb.IMAGE_FORMAT_WEBP,
    Format.RAW: pb.IMAGE_FORMAT_RAW,
}
_DRAWN = (Task.UNCONDITIONAL, Task.CLASS_CONDITIONAL)
_RPC_OF = {
    Task.UNCONDITIONAL: ("Generate", "seeds or latents"),
    Task.CLASS_CONDITIONAL: ("Generate", "seeds or latents"),
    Task.SUPER_RESOLUTION: ("Upscale", "a picture"),
    Task.IMAGE_TO_IMAGE: ("Translate", "a picture"),
}
_FEWER = "use GenerateStream, or ask for fewer images"


PictureRequest = pb.UpscaleRequest | pb.TranslateRequest
PictureReply = pb.UpscaleReply | pb.TranslateReply


class ImageMetrics(Protocol):
    """What the service reports; seconds are of one picture."""

    def decoded(self, model: str, seconds: float) -> None: ...

    def encoded(self, model: str, seconds: float) -> None: ...

    def served(self, model: str, images: int, pixels: int) -> None: ...


class Models(Protocol):
    """What the service asks of the repository."""

    def get(self, name: str, version: str = "") -> Model: ...

    def index(self) -> list[IndexEntry]: ...


class ImageService(ImageServiceServicer):
    """Pictures from seeds, latents and labels, pictures in and pictures out."""

    def __init__(self, repository: Models, settings: Settings, codecs: Executor, metrics: ImageMetrics) -> None:
        self._repository = repository
        self._settings = settings
        self._codec_pool = codecs
        self._metrics = metrics
        self._room = Room(settings.max_queue_bytes)

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateReply:
        """All images, in the order asked."""
        started = time.perf_counter()
        model, spec = self._find(request.model, request.version, _DRAWN)
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
        model, spec = self._find(request.model, request.version, _DRAWN)
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
        """The picture, enlarged."""
        started = time.perf_counter()
        model, spec = self._find(request.model, request.version, (Task.SUPER_RESOLUTION,))
        layout = lay_out_upscale(spec, self._header(request), request.alpha != pb.ALPHA_POLICY_DROP)
        reply = pb.UpscaleReply()
        made = await self._repaint(model, layout, request, context, reply)
        reply.tiles, reply.largest_batch = made.tiles, made.largest_batch
        reply.timings.total_s = time.perf_counter() - started
        return reply

    async def Translate(self, request: pb.TranslateRequest, context: Context) -> pb.TranslateReply:
        """The picture, translated."""
        started = time.perf_counter()
        model, spec = self._find(request.model, request.version, (Task.IMAGE_TO_IMAGE,))
        layout = lay_out_translation(spec, self._header(request), request.alpha != pb.ALPHA_POLICY_DROP)
        reply = pb.TranslateReply()
        made = await self._repaint(model, layout, request, context, reply)
        reply.batch_size = made.largest_batch
        reply.timings.total_s = time.perf_counter() - started
        return reply

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsReply:
        """What the repository holds."""
        return pb.ListModelsReply(models=[describe(entry) for entry in self._repository.index()])

    def _find(self, name: str, version: str, tasks: Collection[Task]) -> tuple[Model, Spec]:
        """The model, whose task must be one of those that the RPC serves."""
        model = self._repository.get(name, version)
        spec = model.spec
        if spec is None or spec.tensors != "uint8":
            why = "has no manifest" if spec is None else f"was exported with tensors={spec.tensors}"
            raise InvalidRequest(f"model {name!r} {why}: the image API cannot serve it; use ModelInfer")
        if spec.task not in tasks:
            right, takes = _RPC_OF[spec.task]
            raise InvalidRequest(f"model {name!r} is {spec.task}: it takes {takes}; use {right}")
        return model, spec

    async def _order(self, request: pb.GenerateRequest, spec: Spec) -> Order:
        limit, limit_bytes = self._settings.max_images_per_call, self._settings.max_queue_bytes
        if is_large(request):
            loop = asyncio.get_running_loop()
            order = await loop.run_in_executor(self._codec_pool, read_order, request, spec, limit)
        else:
            order = read_order(request, spec, limit)
        if order.nbytes > limit_bytes:
            each = order.nbytes // order.n
            raise ImageTooLarge(
                f"{order.n} images of {each} bytes of latents and noise each, at most {limit_bytes // each} per call "
                f"({limit_bytes} bytes, max_queue_bytes)"
            )
        return order

    def _header(self, request: PictureRequest) -> Header:
        """The picture's header, within the limit by pixels."""
        if request.raw_width or request.raw_height:
            header = raw_header(len(request.image), request.raw_width, request.raw_height)
        else:
            header = read_header(request.image)
        self._check_pixels("image", header.width, header.height)
        return header

    async def _repaint(
        self, model: Model, layout: Layout, request: PictureRequest, context: Context, reply: PictureReply
    ) -> Repainted:
        """Runs the picture through the model and fills in what both replies have; counts it."""
        if layout.whole:
            plan, limit = layout.plan, self._settings.max_whole_px
            _check_pixels("image, whole", plan.padded_width, plan.padded_height, limit, "max_whole_px")
        self._check_pixels("the image made", layout.width, layout.height)
        encoding = read_encoding(request.encoding)
        encoding.check(layout.width, layout.height, layout.channels)
        if encoding.format is Format.RAW:
            self._check_message(layout.height * layout.width * layout.channels, "ask for an encoded picture")
        with self._room.hold(layout.held_bytes):
            made = await repaint(model, layout, request.image, encoding, deadline(context), self._codec_pool)
        self._check_message(len(made.data), "ask for JPEG or WebP, or send a smaller picture")
        self._metrics.decoded(model.name, made.decode_s)
        self._metrics.encoded(model.name, made.encode_s)
        self._metrics.served(model.name, 1, made.shape[0] * made.shape[1])
        reply.model, reply.version = model.name, str(model.version)
        _fill_image(reply.image, made, encoding)
        _fill_timings(reply.timings, [made])
        reply.timings.decode_s = made.decode_s
        return made

    def _check_reply(self, order: Order) -> None:
        """Refuses, before any work, what could not be sent."""
        if order.encoding.format is Format.RAW:
            self._check_message(order.n * order.image_bytes, _FEWER)

    def _check_message(self, nbytes: int, advice: str) -> None:
        limit = self._settings.max_message_bytes
        if nbytes > limit:
            raise ImageTooLarge(f"the reply is {nbytes} bytes or more, at most {limit} (max_message_bytes); {advice}")

    def _check_pixels(self, what: str, width: int, height: int) -> None:
        _check_pixels(what, width, height, self._settings.max_image_px, "max_image_px")

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
        if order.noise is not None:
            image.noise_seed = order.noise.seeds[drawn.index]


def _check_pixels(what: str, width: int, height: int, limit: int, setting: str) -> None:
    if width * height > limit:
        raise ImageTooLarge(f"{what}: {width} x {height} = {width * height} px, at most {limit} ({setting})")


def _fill_image(image: pb.Image, made: Drawn | Repainted, encoding: Encoding) -> None:
    # In place: a message given to another's constructor is copied, and this one may be 200 MB.
    image.data = made.data
    image.format = _WIRE_FORMATS[encoding.format]
    image.height, image.width, image.channels = made.shape


def _fill_timings(timings: pb.Timings, made: Collection[Drawn | Repainted]) -> None:
    """Each phase at its longest."""
    timings.queue_s = max(one.queue_s for one in made)
    timings.compute_s = max(one.compute_s for one in made)
    timings.encode_s = max(one.encode_s for one in made)
