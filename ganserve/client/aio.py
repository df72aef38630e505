"""The client for asyncio: the calls of `Client`, awaited."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, Unpack

import grpc

from ganserve.client.channel import MAX_RETRIES, channel_options, make_stub
from ganserve.client.client import Client
from ganserve.client.errors import translated
from ganserve.client.messages import MAX_UNARY_IMAGES, generate_request, image_request
from ganserve.client.options import GenerateOptions, ImageOptions, Picture
from ganserve.client.results import (
    GeneratedImage,
    ServedModel,
    Translated,
    Upscaled,
    read_generated,
    read_models,
    read_translated,
    read_upscaled,
)
from ganserve.client.resume import RemainingImages
from ganserve.v1 import images_pb2 as pb


class AsyncClient:
    """`Client` for asyncio: the same arguments, calls and errors. Belongs to the event loop that it was made in."""

    def __init__(
        self,
        server: str = "localhost:8001",
        *,
        deadline_s: float | None = 60.0,
        retries: int = MAX_RETRIES,
        credentials: grpc.ChannelCredentials | None = None,
        api_key: str | None = None,
    ) -> None:
        options = channel_options(server, retries)
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(server, options)
        else:
            self._channel = grpc.aio.secure_channel(server, credentials, options)
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
        with translated():
            return read_generated(await self._stub.Generate(request, timeout=self._timeout(deadline_s)))

    def generate_stream(
        self, model: str, *, deadline_s: float | None = None, **options: Unpack[GenerateOptions]
    ) -> AsyncIterator[GeneratedImage]:
        """`Client.generate_stream` as an asynchronous iterator."""
        request, n = generate_request(model, **options)
        return self._stream(request, n, deadline_s)

    async def upscale(
        self, model: str, image: Picture, *, deadline_s: float | None = None, **options: Unpack[ImageOptions]
    ) -> Upscaled:
        """`Client.upscale`, awaited."""
        request = await asyncio.to_thread(lambda: image_request(pb.UpscaleRequest, model, image, **options))
        with translated():
            return read_upscaled(await self._stub.Upscale(request, timeout=self._timeout(deadline_s)))

    async def translate(
        self, model: str, image: Picture, *, deadline_s: float | None = None, **options: Unpack[ImageOptions]
    ) -> Translated:
        """`Client.translate`, awaited."""
        request = await asyncio.to_thread(lambda: image_request(pb.TranslateRequest, model, image, **options))
        with translated():
            return read_translated(await self._stub.Translate(request, timeout=self._timeout(deadline_s)))

    async def models(self, *, deadline_s: float | None = None) -> list[ServedModel]:
        """Every model in the server's repository, loaded or not."""
        with translated():
            return read_models(await self._stub.ListModels(pb.ListModelsRequest(), timeout=self._timeout(deadline_s)))

    async def _stream(
        self, request: pb.GenerateRequest, n: int, deadline_s: float | None
    ) -> AsyncIterator[GeneratedImage]:
        remaining = RemainingImages(request, n, self._timeout(deadline_s))
        with translated():
            for attempt in remaining.attempts(self._stub.GenerateStream, resumes=self._retries > 0):
                with attempt as call:
                    async for reply in call:
                        yield remaining.receive(reply)

    def _timeout(self, deadline_s: float | None) -> float | None:
        return self._deadline_s if deadline_s is None else deadline_s


for _name in ("generate", "generate_stream", "upscale", "translate"):  # help() shows every argument here too
    _method = getattr(AsyncClient, _name)
    _method.__doc__ = f"{_method.__doc__}\n\n        {getattr(Client, _name).__doc__}"
