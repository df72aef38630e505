"""The client for asyncio: the same calls as `ganserve.client`, awaited."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import grpc
import numpy as np
from numpy.typing import NDArray

from ganserve.client.channel import MOST_RETRIES, channel_options
from ganserve.client.errors import translated
from ganserve.client.messages import (
    UNARY_IMAGES,
    AlphaName,
    FormatName,
    Labels,
    Picture,
    Seeds,
    Truncations,
    generate_request,
    images_asked,
    translate_request,
    upscale_request,
)
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
from ganserve.client.resume import Rest
from ganserve.v1 import images_pb2 as pb
from ganserve.v1.images_pb2_grpc import ImageServiceStub


class AsyncClient:
    """A connection to one server, or to every pod behind one name. Belongs to the event loop it was made in.

    `server`, `deadline_s` and `retries` as for `Client`.
    `credentials`, as `grpc.ssl_channel_credentials` makes them, turn on TLS.

    Every call raises a class of `ServerError`; `InvalidRequest` also before anything is sent.
    """

    def __init__(
        self,
        server: str = "localhost:8001",
        *,
        deadline_s: float | None = 60.0,
        retries: int = MOST_RETRIES,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        options = channel_options(server, retries)
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(server, options)
        else:
            self._channel = grpc.aio.secure_channel(server, credentials, options)
        self._stub = ImageServiceStub(self._channel)
        self._deadline_s = deadline_s
        self._retries = retries

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection and every call on it."""
        await self._channel.close()

    async def generate(
        self,
        model: str,
        *,
        seeds: Seeds | None = None,
        count: int | None = None,
        first_seed: int | None = None,
        latents: NDArray[np.float32] | None = None,
        ws: NDArray[np.float32] | None = None,
        labels: Labels | None = None,
        truncation: Truncations | None = None,
        noise_seeds: Seeds | None = None,
        format: FormatName = "png",
        quality: int | None = None,
        version: str = "",
        deadline_s: float | None = None,
    ) -> list[GeneratedImage]:
        """Pictures in the order asked; many come over a stream, so that no message grows with their number.

        Arguments as for `Client.generate`.
        """
        request = generate_request(
            model, seeds=seeds, count=count, first_seed=first_seed, latents=latents, ws=ws, labels=labels,
            truncation=truncation, noise_seeds=noise_seeds, format=format, quality=quality, version=version,
        )  # fmt: skip
        n = images_asked(request, latents if ws is None else ws)
        if n > UNARY_IMAGES:
            images = [image async for image in self._streamed(request, n, deadline_s)]
            return sorted(images, key=lambda image: image.index)
        with translated():
            return read_generated(await self._stub.Generate(request, timeout=self._timeout(deadline_s)))

    def generate_stream(
        self,
        model: str,
        *,
        seeds: Seeds | None = None,
        count: int | None = None,
        first_seed: int | None = None,
        latents: NDArray[np.float32] | None = None,
        ws: NDArray[np.float32] | None = None,
        labels: Labels | None = None,
        truncation: Truncations | None = None,
        noise_seeds: Seeds | None = None,
        format: FormatName = "png",
        quality: int | None = None,
        version: str = "",
        deadline_s: float | None = None,
    ) -> AsyncIterator[GeneratedImage]:
        """Pictures as they are ready, `index` saying which; arguments as for `generate`.

        Closing the iterator cancels what is not drawn yet.
        """
        request = generate_request(
            model, seeds=seeds, count=count, first_seed=first_seed, latents=latents, ws=ws, labels=labels,
            truncation=truncation, noise_seeds=noise_seeds, format=format, quality=quality, version=version,
        )  # fmt: skip
        n = images_asked(request, latents if ws is None else ws)
        return self._streamed(request, n, deadline_s)

    async def upscale(
        self,
        model: str,
        image: Picture,
        *,
        alpha: AlphaName = "keep",
        format: FormatName = "png",
        quality: int | None = None,
        version: str = "",
        deadline_s: float | None = None,
    ) -> Upscaled:
        """The picture, enlarged by the model. Arguments as for `Client.upscale`."""
        request = await asyncio.to_thread(
            upscale_request, model, image, alpha=alpha, format=format, quality=quality, version=version
        )
        with translated():
            return read_upscaled(await self._stub.Upscale(request, timeout=self._timeout(deadline_s)))

    async def translate(
        self,
        model: str,
        image: Picture,
        *,
        alpha: AlphaName = "keep",
        format: FormatName = "png",
        quality: int | None = None,
        version: str = "",
        deadline_s: float | None = None,
    ) -> Translated:
        """The picture, turned into another by the model. Arguments as for `Client.translate`."""
        request = await asyncio.to_thread(
            translate_request, model, image, alpha=alpha, format=format, quality=quality, version=version
        )
        with translated():
            return read_translated(await self._stub.Translate(request, timeout=self._timeout(deadline_s)))

    async def models(self, *, deadline_s: float | None = None) -> list[ServedModel]:
        """What the server's repository holds, loaded or not."""
        with translated():
            return read_models(await self._stub.ListModels(pb.ListModelsRequest(), timeout=self._timeout(deadline_s)))

    async def _streamed(
        self, request: pb.GenerateRequest, n: int, deadline_s: float | None
    ) -> AsyncIterator[GeneratedImage]:
        rest = Rest(request, n, self._timeout(deadline_s))
        with translated():
            while True:
                call = self._stub.GenerateStream(rest.request, timeout=rest.timeout_s)
                try:
                    async for reply in call:
                        yield rest.take(reply)
                    return
                except grpc.RpcError as error:
                    if not self._retries or not rest.narrow(error):
                        raise
                    if not rest:
                        return
                finally:
                    call.cancel()

    def _timeout(self, deadline_s: float | None) -> float | None:
        return self._deadline_s if deadline_s is None else deadline_s
