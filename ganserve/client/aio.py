"""The client for asyncio: the calls of `Client`, awaited."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar, Unpack, overload

import grpc
import numpy as np
from numpy.typing import NDArray

from ganserve.client.address import Address
from ganserve.client.channel import MAX_RETRIES, channel_options, make_stub
from ganserve.client.client import Client
from ganserve.client.encoders import encode_request, read_w
from ganserve.client.errors import translated_aio
from ganserve.client.many import MAX_IN_FLIGHT
from ganserve.client.messages import (
    MAX_UNARY_IMAGES,
    generate_request,
    split_request,
    translate_request,
    upscale_request,
)
from ganserve.client.options import GenerateOptions, ScoreOptions, TranslateOptions, UpscaleOptions
from ganserve.client.pictures import Picture, Pictures, is_many
from ganserve.client.pieces import OnProgress, Pieces, silent
from ganserve.client.results import (
    Direction,
    GeneratedImage,
    JudgeGraph,
    ServedModel,
    Translated,
    Upscaled,
    read_directions,
    read_generated,
    read_judge,
    read_models,
    read_translated,
    read_upscaled,
)
from ganserve.client.resume import RemainingImages
from ganserve.client.scores import ImageScore, read_scores, score_requests
from ganserve.v1 import images_pb2 as pb

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same arguments, calls and errors. Belongs to the event loop that it was made in."""

    def __init__(
        self,
        server: str | None = None,
        *,
        deadline_s: float | None = 60.0,
        retries: int = MAX_RETRIES,
        credentials: grpc.ChannelCredentials | None = None,
        api_key: str | None = None,
    ) -> None:
        self._address = Address.of(server, tls=credentials is not None)
        options = channel_options(self._address.target, retries)
        if self._address.tls:
            credentials = credentials or grpc.ssl_channel_credentials()
            self._channel = grpc.aio.secure_channel(self._address.target, credentials, options)
        else:
            self._channel = grpc.aio.insecure_channel(self._address.target, options)
        self._stub = make_stub(self._channel, api_key)
        self._deadline_s = deadline_s
        self._retries = retries

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection and ends every call on it."""
        await self._channel.close()

    async def generate(
        self, model: str, *, deadline_s: float | None = None, **options: Unpack[GenerateOptions]
    ) -> list[GeneratedImage]:
        """`Client.generate`, awaited."""
        request, n = generate_request(model, **options)
        if n > MAX_UNARY_IMAGES:
            images = [image async for image in self._stream(request, n, deadline_s)]
            return sorted(images, key=lambda image: image.index)
        async with self._translated(deadline_s) as timeout_s:
            return read_generated(await self._stub.Generate(request, timeout=timeout_s))

    def generate_stream(
        self, model: str, *, deadline_s: float | None = None, **options: Unpack[GenerateOptions]
    ) -> AsyncIterator[GeneratedImage]:
        """`Client.generate_stream` as an asynchronous iterator."""
        request, n = generate_request(model, **options)
        return self._stream(request, n, deadline_s)

    @overload
    async def upscale(  # type: ignore[overload-overlap]  # text and bytes are sequences too
        self, model: str, image: Picture, *, deadline_s: float | None = None, **options: Unpack[UpscaleOptions]
    ) -> Upscaled: ...

    @overload
    async def upscale(
        self, model: str, image: Pictures, *, deadline_s: float | None = None, **options: Unpack[UpscaleOptions]
    ) -> list[Upscaled]: ...

    async def upscale(
        self,
        model: str,
        image: Picture | Pictures,
        *,
        deadline_s: float | None = None,
        **options: Unpack[UpscaleOptions],
    ) -> Upscaled | list[Upscaled]:
        """`Client.upscale`, awaited."""
        if is_many(image):
            return await _in_order(lambda each: self.upscale(model, each, deadline_s=deadline_s, **options), image)
        request = await asyncio.to_thread(lambda: upscale_request(model, image, **options))
        async with self._translated(deadline_s) as timeout_s:
            return read_upscaled(await self._stub.Upscale(request, timeout=timeout_s))

    async def upscale_stream(
        self,
        model: str,
        image: Picture,
        *,
        on_progress: OnProgress | None = None,
        deadline_s: float | None = None,
        **options: Unpack[UpscaleOptions],
    ) -> Upscaled:
        """`Client.upscale_stream`, awaited."""
        request = await asyncio.to_thread(lambda: upscale_request(model, image, **options))
        pieces = Pieces(on_progress)
        async with self._translated(deadline_s) as silence_s:
            call = self._stub.UpscaleStream(request)
            try:
                async with asyncio.timeout(silence_s) as limit:
                    async for message in call:
                        pieces.add(message)
                        if silence_s is not None:
                            limit.reschedule(asyncio.get_running_loop().time() + silence_s)
            except TimeoutError:
                raise silent(silence_s) from None
            finally:
                call.cancel()
        return pieces.result

    @overload
    async def translate(  # type: ignore[overload-overlap]  # text and bytes are sequences too
        self, model: str, image: Picture, *, deadline_s: float | None = None, **options: Unpack[TranslateOptions]
    ) -> Translated: ...

    @overload
    async def translate(
        self, model: str, image: Pictures, *, deadline_s: float | None = None, **options: Unpack[TranslateOptions]
    ) -> list[Translated]: ...

    async def translate(
        self,
        model: str,
        image: Picture | Pictures,
        *,
        deadline_s: float | None = None,
        **options: Unpack[TranslateOptions],
    ) -> Translated | list[Translated]:
        """`Client.translate`, awaited."""
        if is_many(image):
            return await _in_order(lambda each: self.translate(model, each, deadline_s=deadline_s, **options), image)
        request = await asyncio.to_thread(lambda: translate_request(model, image, **options))
        async with self._translated(deadline_s) as timeout_s:
            return read_translated(await self._stub.Translate(request, timeout=timeout_s))

    @overload
    async def score(  # type: ignore[overload-overlap]  # text and bytes are sequences too
        self, model: str, image: Picture, *, deadline_s: float | None = None, **options: Unpack[ScoreOptions]
    ) -> ImageScore: ...

    @overload
    async def score(
        self, model: str, image: Pictures, *, deadline_s: float | None = None, **options: Unpack[ScoreOptions]
    ) -> list[ImageScore]: ...

    async def score(
        self, model: str, image: Picture | Pictures, *, deadline_s: float | None = None, **options: Unpack[ScoreOptions]
    ) -> ImageScore | list[ImageScore]:
        """`Client.score`, awaited."""
        found: list[ImageScore] = []
        for request in await asyncio.to_thread(lambda: list(score_requests(model, image, **options))):
            async with self._translated(deadline_s) as timeout_s:
                found += read_scores(await self._stub.Score(request, timeout=timeout_s))
        return found if is_many(image) else found[0]

    async def models(self, *, deadline_s: float | None = None) -> list[ServedModel]:
        """Every model in the server's repository, loaded or not."""
        async with self._translated(deadline_s) as timeout_s:
            return read_models(await self._stub.ListModels(pb.ListModelsRequest(), timeout=timeout_s))

    async def judge(self, model: str, *, version: str = "", deadline_s: float | None = None) -> JudgeGraph:
        """The network that says what a generator's images show, as an ONNX graph."""
        request = pb.GetJudgeRequest(model=model, version=version)
        async with self._translated(deadline_s) as timeout_s:
            return read_judge(await self._stub.GetJudge(request, timeout=timeout_s))

    async def directions(self, model: str, *, version: str = "", deadline_s: float | None = None) -> list[Direction]:
        """The directions of a generator that `edits` may name."""
        request = pb.ListDirectionsRequest(model=model, version=version)
        async with self._translated(deadline_s) as timeout_s:
            return read_directions(await self._stub.ListDirections(request, timeout=timeout_s))

    async def encode(
        self, model: str, image: Picture, *, version: str = "", deadline_s: float | None = None
    ) -> NDArray[np.float32]:
        """`Client.encode`, awaited."""
        models = await self.models(deadline_s=deadline_s)
        request = await asyncio.to_thread(encode_request, models, model, version, image)
        async with self._translated(deadline_s) as timeout_s:
            return read_w(await self._stub.ModelInfer(request, timeout=timeout_s))

    async def _stream(
        self, request: pb.GenerateRequest, n: int, deadline_s: float | None
    ) -> AsyncIterator[GeneratedImage]:
        for part, places in split_request(request, n):
            async with self._translated(deadline_s) as timeout_s:
                remaining = RemainingImages(part, places, timeout_s)
                for attempt in remaining.attempts(self._stub.GenerateStream, resumes=self._retries > 0):
                    with attempt as call:
                        async for reply in call:
                            yield remaining.receive(reply)

    @asynccontextmanager
    async def _translated(self, deadline_s: float | None) -> AsyncIterator[float | None]:
        """Gives the call's time in seconds, and turns gRPC's errors into the client's."""
        timeout_s = self._deadline_s if deadline_s is None else deadline_s
        async with translated_aio(self._address, timeout_s):
            yield timeout_s


async def _in_order(call: Callable[[Picture], Awaitable[T]], images: Pictures) -> list[T]:
    """The call's result for each image, MAX_IN_FLIGHT at a time. The first error ends the others."""
    places = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def one(image: Picture) -> T:
        async with places:
            return await call(image)

    tasks = [asyncio.ensure_future(one(image)) for image in images]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


for _name in (
    "generate",
    "generate_stream",
    "upscale",
    "translate",
    "score",
    "encode",
):  # help() shows every argument here too
    _method = getattr(AsyncClient, _name)
    _method.__doc__ = f"{_method.__doc__}\n\n        {getattr(Client, _name).__doc__}"
