"""ImageService: protobuf <-> seeds, labels and pixels.

Raises the errors of `server.errors`; `calls` maps them to status codes.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, aclosing
from dataclasses import replace
from functools import partial

from artifact.spec import Spec, Task
from ganserve.v1 import images_pb2 as pb
from server.api.calls import Context, deadline, hold_of, hold_until_read
from server.api.formats import choose_bits, read_encoding, read_policy, read_size
from server.api.generate_request import input_bytes, is_large, read_job
from server.api.guidance_request import complete_guidance, read_guidance
from server.api.limits import Limits
from server.api.listings import GENERATORS, Listings
from server.api.marks import Marks, is_signed
from server.api.pieces import Pieces, in_pieces
from server.api.quotas import charge
from server.api.replies import Fill, fill_image, fill_timings
from server.api.score_request import answer_score
from server.api.selection_request import read_selection
from server.api.steps import plan_steps
from server.errors import InvalidRequest
from server.images.channels import plan_translation
from server.images.codecs import Encoding, raw_header
from server.images.generate import GeneratedImage, GenerateJob, generate, window_of
from server.images.header import Format, Header, header_of
from server.images.memory import (
    COUNTED_BYTES,
    REPLY_COPIES,
    SENT_COPIES,
    Hold,
    MemoryBudget,
    call_bytes,
    reference_bytes,
)
from server.images.sizes import TransformPlan, in_one_pass, plan_sized_upscale
from server.images.transform import TransformedImage, transform
from server.images.turns import in_all_turns
from server.images.workers import Workers
from server.observability.metrics import Metrics
from server.repository.model import Model
from server.repository.repository import Repository

_FEWER = "use GenerateStream, or request fewer images"

ImageRequest = pb.UpscaleRequest | pb.TranslateRequest
ImageReply = pb.UpscaleReply | pb.TranslateReply


class ImageService(Listings):
    """Images from seeds, latents and labels, also through further networks; images from images."""

    def __init__(
        self,
        repository: Repository,
        limits: Limits,
        workers: Workers,
        budget: MemoryBudget,
        metrics: Metrics,
        marks: Marks,
    ) -> None:
        super().__init__(repository, limits, budget)
        self.marks = marks
        self._workers = workers
        self._metrics = metrics
        self._fill = Fill(metrics)

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateReply:
        """All images, in the order requested."""
        return await self.generate(request, context, lambda *_: None)

    async def generate(
        self,
        request: pb.GenerateRequest,
        context: Context,
        check: Callable[[Model, GenerateJob, tuple[Model, ...]], None],
        signs: bool = True,
    ) -> pb.GenerateReply:
        """As Generate. `check`: gets what `read` returns, before anything is computed; what it raises ends the call.
        `signs`: whether images that their model wants signed are."""
        started = time.perf_counter()
        with ExitStack() as visits:
            model, job, steps = await self._read(request, context, visits)
            check(model, job, steps)
            if job.encoding.format is Format.RAW:  # known before any work
                self._limits.check_reply(job.n * job.reply_bytes, _FEWER)
            nbytes = min(job.n * job.reply_bytes, self._limits.max_message_bytes) * REPLY_COPIES
            nbytes += window_of(model.batcher, job) * job.passing_bytes
            hold = hold_of(context, self._budget)
            if nbytes + 2 * job.changing_bytes > COUNTED_BYTES:
                hold_until_read(context, hold)
                hold.take(nbytes)
            job = await self._changed(job, hold)
            images: dict[int, GeneratedImage] = {}
            nbytes = job.n * (job.reply_bytes - job.image_bytes)
            async with aclosing(generate(model.batcher, job, deadline(context), self._workers)) as generated:
                async for image in generated:
                    if signs:
                        image = await self.marks.sign(image, job.encoding)
                    images[image.index] = image
                    nbytes += len(image.data)
                    self._limits.check_reply(nbytes, _FEWER)
            reply = pb.GenerateReply(model=model.name, version=str(model.version))
            for index in range(job.n):
                self._fill.image(reply.images.add(), model, job, images[index])
            reply.largest_batch = max(image.batch_size for image in images.values())
            self._fill.steps(reply.then, steps, images.values())
            fill_timings(reply.timings, images.values(), started)
            return reply

    async def GenerateStream(
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncGenerator[pb.GenerateStreamReply, None]:
        """Each image as soon as it is ready."""
        started = time.perf_counter()
        with ExitStack() as visits:
            model, job, steps = await self._read(request, context, visits)
            window = window_of(model.batcher, job)
            nbytes = job.held_bytes + window * (job.passing_bytes + job.image_bytes + job.reply_bytes * REPLY_COPIES)
            with Hold(self._budget) as hold:
                if nbytes + 2 * job.changing_bytes > COUNTED_BYTES:
                    hold.take(nbytes)
                job = await self._changed(job, hold)
                images = generate(model.batcher, job, deadline(context), self._workers, window)
                async with aclosing(images) as generated:
                    async for image in generated:
                        image = await self.marks.sign(image, job.encoding)
                        self._limits.check_reply(len(image.data), "use another encoding")
                        reply = pb.GenerateStreamReply(
                            index=image.index, model=model.name, version=str(model.version), batch_size=image.batch_size
                        )
                        self._fill.image(reply.image, model, job, image)
                        self._fill.steps(reply.then, steps, [image])
                        fill_timings(reply.timings, [image], started)
                        yield reply

    async def Upscale(self, request: pb.UpscaleRequest, context: Context) -> pb.UpscaleReply:
        """The image at the model's scale, or at the size that the request has."""
        reply = pb.UpscaleReply()
        await self._upscale(request, context, reply)
        return reply

    async def UpscaleStream(
        self, request: pb.UpscaleRequest, context: Context
    ) -> AsyncGenerator[pb.UpscaleStreamReply, None]:
        """How far the image is, its encoded bytes, and in the end what Upscale replies."""
        async with aclosing(in_pieces(partial(self._upscale, request, context))) as pieces:
            async for piece in pieces:
                yield piece

    async def _upscale(
        self, request: pb.UpscaleRequest, context: Context, reply: pb.UpscaleReply, pieces: Pieces | None = None
    ) -> None:
        size = read_size(request)
        check = partial(self._limits.check_image, "the returned image")
        make_plan = partial(plan_sized_upscale, size=size, check=check)
        hold = self._hold_sent(request, context)
        image = await self._transform(request, context, reply, Task.SUPER_RESOLUTION, make_plan, hold, pieces)
        reply.tiles, reply.largest_batch = image.tiles, image.largest_batch

    async def Translate(self, request: pb.TranslateRequest, context: Context) -> pb.TranslateReply:
        """The image, translated."""
        reply = pb.TranslateReply()
        hold = self._hold_sent(request, context)
        guidance = await read_guidance(request, self._limits, self._workers)
        if guidance.reference is not None:
            hold.take(reference_bytes(guidance.reference))

        def make_plan(spec: Spec, header: Header, keeps_alpha: bool, bits: int) -> TransformPlan:
            return in_one_pass(plan_translation(spec, header, keeps_alpha, bits, guidance))

        complete = partial(complete_guidance, request, guidance, reply, self._workers)
        image = await self._transform(request, context, reply, Task.IMAGE_TO_IMAGE, make_plan, hold, complete=complete)
        reply.batch_size = image.largest_batch
        return reply

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreReply:
        """What the model's critic says of images."""
        with ExitStack() as visits:
            model, _ = self._find(request.model, request.version, GENERATORS, visits)
            hold = self._hold_sent(request, context)
            return await answer_score(
                request, model, self._limits, self._metrics, self._workers, deadline(context), hold.take
            )

    async def _read(
        self, request: pb.GenerateRequest, context: Context, visits: ExitStack
    ) -> tuple[Model, GenerateJob, tuple[Model, ...]]:
        """As `read`, if there is time for it; it is charged. What is to be changed is not yet: see `_changed`."""

        def admit(model: Model, spec: Spec) -> None:
            """Rejects an overload before the latents are made; `Batcher.admit` decides once the request is read."""
            nbytes = input_bytes(request, spec, self._limits) * max(1, request.best_of)
            model.batcher.check_time(nbytes, deadline(context))

        model, job, steps = await self.read(request, visits, admit)
        height, width = model.space.spec.image_shape[:2]
        charge(job.rows, job.n * job.largest_px + (job.rows - job.n) * height * width)
        return model, job, steps

    async def read(
        self, request: pb.GenerateRequest, visits: ExitStack, admit: Callable[[Model, Spec], None] = lambda *_: None
    ) -> tuple[Model, GenerateJob, tuple[Model, ...]]:
        """The generator, what it has to compute, and the models of the further steps; all stay open for `visits`."""
        model, spec = self._find(request.model, request.version, GENERATORS, visits)
        steps, passages = plan_steps(request.then, spec, partial(self._find, visits=visits), self._check_size)
        admit(model, spec)
        selection = read_selection(request, model.critic)
        reading = (request, selection, model.space, self._limits, passages)
        job = await self._workers.run_if(is_large(request), read_job, *reading)
        job = replace(job, encoding=self.marks.of_generated(job.encoding, (model, *steps)))
        return model, job, steps

    async def _changed(self, job: GenerateJob, hold: Hold) -> GenerateJob:
        """The job with its changes made. Their memory is counted before it is taken."""
        made = job.changing_bytes
        if 2 * made > COUNTED_BYTES:
            hold.take(2 * made)
        if made:
            job = await self._workers.run(job.changed)
        if 2 * made > COUNTED_BYTES:
            hold.settle(hold.nbytes - made)
        return job

    async def _transform(
        self,
        request: ImageRequest,
        context: Context,
        reply: ImageReply,
        task: Task,
        make_plan: Callable[[Spec, Header, bool, int], TransformPlan],
        hold: Hold,
        pieces: Pieces | None = None,
        complete: Callable[[Spec, TransformPlan], Awaitable[TransformPlan]] | None = None,
    ) -> TransformedImage:
        """Runs the image through the model, counts it, and fills in what both replies have. `hold`: has what was sent.
        `pieces`: the image is sent in these as well, and may be longer than a message. `complete`: does to the plan
        what takes longer."""
        started = time.perf_counter()
        with ExitStack() as visits:
            model, spec = self._find(request.model, request.version, (task,), visits)
            encoding, sent = read_encoding(request.encoding), request.image  # once: each look is a copy
            header = await self._header(request, sent)
            encoding = replace(encoding, metadata=read_policy(request.metadata, encoding))
            encoding = self.marks.of_changed(encoding, model, sent)
            bits, warning = choose_bits(header.bits, encoding, model.takes_floats)
            plan = make_plan(spec, header, request.alpha != pb.ALPHA_POLICY_DROP, bits)
            if request.tta:
                plan = in_all_turns(plan, spec, model.takes_floats)
            self._check(plan, encoding, pieces is not None)
            charge(1, plan.largest_px * plan.turns)
            sent_bytes = hold.nbytes
            limit = self._limits.max_metadata_bytes
            leaves = pieces is not None and not is_signed(encoding)
            counted = partial(call_bytes, plan, encoding, model.batcher.max_batch_size, len(sent), limit, leaves)
            hold.take(counted())
            if complete is not None:
                plan = await complete(spec, plan)
            image = await transform(
                model.batcher, plan, sent, encoding, deadline(context), self._workers,
                None if pieces is None else pieces.of(plan.tiles), limit,
                lambda detail: hold.settle(sent_bytes + counted(detail)),
            )  # fmt: skip
            image = await self.marks.sign_changed(image, encoding, sent, header)
            hold.settle(sent_bytes + len(image.data) * REPLY_COPIES)
            if pieces is None:
                self._limits.check_reply(len(image.data), "use UpscaleStream, JPEG or WebP, or send a smaller image")
            self._metrics.decoded(model.name, image.decode_s)
            self._metrics.encoded(model.name, image.encode_s)
            self._metrics.served(model.name, 1, image.shape[0] * image.shape[1])
            self._metrics.cut(model.name, image.tiles)
            reply.model, reply.version = model.name, str(model.version)
            fill_image(reply.image, image, encoding)
            reply.image.bits = bits
            reply.warnings.extend([*([warning] if warning else []), *image.warnings])
            fill_timings(reply.timings, [image], started)
            reply.timings.decode_s = image.decode_s
            return image

    def _hold_sent(self, request: ImageRequest | pb.ScoreRequest, context: Context) -> Hold:
        """Counts what was sent, before the call waits for anything. What it counts is given back when the call has
        ended: its reply is in memory until the caller has read it."""
        hold = hold_of(context, self._budget)
        if not hold.nbytes:  # over HTTP the body is counted
            hold.take(SENT_COPIES * request.ByteSize())
        hold_until_read(context, hold)
        return hold

    async def _header(self, request: ImageRequest, sent: bytes) -> Header:
        """The image's header, within the limit by pixels."""
        if request.raw_width or request.raw_height:
            header = raw_header(len(sent), request.raw_width, request.raw_height, request.raw_bits or 8)
        elif request.raw_bits:
            raise InvalidRequest(f"raw_bits: {request.raw_bits} given without raw_width and raw_height")
        else:
            header = await header_of(sent, self._workers)
        self._limits.check_image("image", header.width, header.height)
        return header

    def _check(self, plan: TransformPlan, encoding: Encoding, in_pieces: bool) -> None:
        """Rejects, before any work, what could not be computed, encoded or sent."""
        self._check_size(plan)
        encoding.check(plan.width, plan.height, plan.channels)
        if encoding.format is Format.RAW and not in_pieces:
            self._limits.check_reply(plan.nbytes, "use an encoded format")

    def _check_size(self, plan: TransformPlan) -> None:
        for each in plan.passes:
            if each.whole:
                self._limits.check_whole("image", each.grid.padded_width, each.grid.padded_height)
        self._limits.check_image("the returned image", plan.width, plan.height)
