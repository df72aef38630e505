"""The client for ordinary code: calls block until the answer is there."""

from collections.abc import Iterator
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


class Client:
    """A connection to one server, or to every pod behind one name. May be shared between threads.

    `server` is host:port, or a gRPC target that names servers one by one, such as `dns:///ganserve-headless:8001`:
    calls go to each in turn, and to none that is about to stop.

    `deadline_s` is the longest that one call may take, unless the call says otherwise; None is no limit. Within it a
    call that a server had no room for or could not take, or that was lost with its server, is tried again, up to
    `retries` (0..4) times, after 0.1, 0.3, 0.9 and 2.7 s, each give or take a fifth. Calls change nothing on a server,
    so that this is harmless; only pictures whose seeds the server draws may then have others.

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
            self._channel = grpc.insecure_channel(server, options)
        else:
            self._channel = grpc.secure_channel(server, credentials, options)
        self._stub = ImageServiceStub(self._channel)
        self._deadline_s = deadline_s
        self._retries = retries

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and every call on it."""
        self._channel.close()

    def generate(
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

        Args:
            model: the model's name; `version` empty is the newest that is ready.
            seeds: 0..2^32-1 each; the same seed is the same picture. Or instead of seeds:
            count: that many, from `first_seed` on, or from seeds that the server draws. Or:
            latents: (n, latent size) float32, or (latent size,) for one. Or:
            ws: (n, w size) float32, (n, layers, w size), or (w size,) for one; StyleGAN's latent behind its mapping.
            labels: class index or name; class-conditional models need it.
            truncation: psi, 1 is none, 0 the mean picture.
            noise_seeds: draws the noise from other seeds than the picture's own.
                Of labels, truncation and noise_seeds one is for all pictures, or there is one for each; what the model
                does not have (`models` says what it has) is refused.
            format: png and raw are lossless. `quality` is 1..100 for jpeg and webp, level 0..9 for png.
        """
        request = generate_request(
            model, seeds=seeds, count=count, first_seed=first_seed, latents=latents, ws=ws, labels=labels,
            truncation=truncation, noise_seeds=noise_seeds, format=format, quality=quality, version=version,
        )  # fmt: skip
        n = images_asked(request, latents if ws is None else ws)
        if n > UNARY_IMAGES:
            return sorted(self._streamed(request, n, deadline_s), key=lambda image: image.index)
        with translated():
            return read_generated(self._stub.Generate(request, timeout=self._timeout(deadline_s)))

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
    ) -> Iterator[GeneratedImage]:
        """Pictures as they are ready, `index` saying which; arguments as for `generate`.

        Closing the iterator cancels what is not drawn yet.
        """
        request = generate_request(
            model, seeds=seeds, count=count, first_seed=first_seed, latents=latents, ws=ws, labels=labels,
            truncation=truncation, noise_seeds=noise_seeds, format=format, quality=quality, version=version,
        )  # fmt: skip
        n = images_asked(request, latents if ws is None else ws)
        return self._streamed(request, n, deadline_s)

    def upscale(
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
        """The picture, enlarged by the model.

        Args:
            image: a path, an encoded file's bytes, a PIL image, or an array (H, W, 1, 3 or 4) or (H, W) uint8.
            alpha: keep enlarges the alpha channel too, drop leaves it out.
        """
        request = upscale_request(model, image, alpha=alpha, format=format, quality=quality, version=version)
        with translated():
            return read_upscaled(self._stub.Upscale(request, timeout=self._timeout(deadline_s)))

    def translate(
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
        """The picture, turned into another of its size by the model.

        Args:
            image: as for `upscale`; of any size, whatever multiple the network asks for.
            alpha: keep puts the alpha channel back as it was, drop leaves it out.
        """
        request = translate_request(model, image, alpha=alpha, format=format, quality=quality, version=version)
        with translated():
            return read_translated(self._stub.Translate(request, timeout=self._timeout(deadline_s)))

    def models(self, *, deadline_s: float | None = None) -> list[ServedModel]:
        """What the server's repository holds, loaded or not."""
        with translated():
            return read_models(self._stub.ListModels(pb.ListModelsRequest(), timeout=self._timeout(deadline_s)))

    def _streamed(self, request: pb.GenerateRequest, n: int, deadline_s: float | None) -> Iterator[GeneratedImage]:
        rest = Rest(request, n, self._timeout(deadline_s))
        with translated():
            while True:
                call = self._stub.GenerateStream(rest.request, timeout=rest.timeout_s)
                try:
                    for reply in call:
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
