"""The blocking client."""

from collections.abc import Iterator
from types import TracebackType
from typing import Self, Unpack, overload

import grpc
import numpy as np
from numpy.typing import NDArray

from ganserve.client.address import Address
from ganserve.client.channel import MAX_RETRIES, channel_options, make_stub
from ganserve.client.encoders import encode_request, read_w
from ganserve.client.listings import Listings
from ganserve.client.many import in_order
from ganserve.client.messages import (
    MAX_UNARY_IMAGES,
    generate_request,
    split_request,
    translate_request,
    upscale_request,
)
from ganserve.client.options import GenerateOptions, ScoreOptions, TranslateOptions, UpscaleOptions
from ganserve.client.pictures import Picture, Pictures, is_many
from ganserve.client.pieces import OnProgress, collect
from ganserve.client.results import (
    GeneratedImage,
    Translated,
    Upscaled,
    read_generated,
    read_translated,
    read_upscaled,
)
from ganserve.client.resume import RemainingImages
from ganserve.client.scores import ImageScore, read_scores, score_requests
from ganserve.v1 import images_pb2 as pb


class Client(Listings):
    """A connection to one server, or to every pod behind one name. May be shared between threads.

    Every call raises a subclass of `ServerError`; `InvalidRequest` also before anything is sent.

    Args:
        server: host:port, or a gRPC target that names servers one by one, such as `dns:///ganserve-headless:8001`:
            calls then go round-robin to every server that is not stopping. `https://host:port` asks for TLS with the
            system's certificates. None: GANSERVE_SERVER in the environment, else localhost:8001.
        deadline_s: maximum time for one call in seconds, retries included; None is no limit. Each call may set another.
        retries: 0..4; how often a call is repeated if the server's queue was full, the server was not available, or it
            stopped during the call. The pauses are 0.1, 0.3, 0.9 and 2.7 s, each +-20 %. Calls change nothing on the
            server, so that repeating them is safe; only seeds that the server chooses may differ.
        credentials: turns on TLS, as made by `grpc.ssl_channel_credentials`.
        api_key: sent with every call, for servers that ask for one. Without TLS it can be read on the way.
    """

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
            self._channel = grpc.secure_channel(self._address.target, credentials, options)
        else:
            self._channel = grpc.insecure_channel(self._address.target, options)
        self._stub = make_stub(self._channel, api_key)
        self._deadline_s = deadline_s
        self._retries = retries

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection and ends every call on it."""
        self._channel.close()

    def generate(
        self, model: str, *, deadline_s: float | None = None, **options: Unpack[GenerateOptions]
    ) -> list[GeneratedImage]:
        """Images in the order of the request. Exactly one of seeds, count, latents and ws says which.

        labels, truncation and noise_seeds are one value for all images or one for each. `models` says which of them a
        model supports; others are refused. More than 64 images are received as a stream, so that no message grows with
        their number; more than 1024 are requested by several calls, one after the other, each with the deadline.

        Args:
            model: name of the model.
            deadline_s: maximum time in seconds; None: the client's.
            seeds: int or ints, 0..2**32-1; the same seed always gives the same image.
            count: int, 1..2**32-1; number of images, with seeds first_seed, first_seed + 1, ...
            first_seed: int, 0..2**32-1; goes with count. None: the server chooses the seeds and reports them.
            latents: (n, latent size) float32, or (latent size,) for one image.
            ws: (n, w size) or (n, layers, w size) float32, or (w size,) for one image: StyleGAN's latent after the
                mapping network.
            labels: class indices (int) or names (str); class-conditional models require them.
            truncation: float, psi: 1 = none, 0 = mean image. None: the model's default.
            noise_seeds: int or ints, 0..2**32-1; seeds for the noise inputs. None: the image's seed.
            edits: {direction: strength}, or a list of `Edit`: changes along directions of the model, which `directions`
                lists, by name or index; strengths in standard deviations, one for all images or one for each.
            mixes: a list of `Mix`: layers of w that are taken from other seeds.
            layer_truncations: psi of each layer of w, instead of truncation.
            truncation_cutoff: how many of the first layers truncation acts on; 0: all. None: the model's own.
            towards: with seeds or count, (seed, share) for all images or for each: images that are `share` (0..1) of
                the way to another seed.
            truncation_center: what truncation draws images towards, of models that were exported with centres:
                "nearest", or a centre's number. None: the mean.
            translate: (x, y), how far what a StyleGAN3 draws is moved to the right and down, in sides of the image.
            rotate: degrees by which it is turned counter-clockwise. Both are one for all images or one for each.
            size: px of the longer side of the images, which are resampled by Lanczos. None: as the model draws them.
            best_of: 1..64 candidates for each image; the model's critic takes the best, and `image.seed` is its seed.
            min_percentile: instead the first candidate at that percentile (0..100) of the model's own images or above.
            drs_percentile: or the first that discriminator rejection sampling takes; gamma's percentile, such as 80.
            max_tries: 1..64 (default 16), candidates of an image at most with one of these two.
            return_w: whether each image comes with its w, as `image.w`.
            then: models that each image goes through on the server before it is encoded, in this order: the name of an
                upscaler or translator, or several; (name, version) for another version than the newest, (name, "",
                labels) for a translator with attributes.
            format: "png" (default), "jpeg", "webp" or "raw" (uint8 pixels); png and raw are lossless.
            quality: int, 1..100 for jpeg and webp (default 90), compression level 0..9 for png (default 1).
            version: version of the model; "" (default): the newest that is ready.

        Raises:
            ServerError: one of its subclasses.
        """
        request, n = generate_request(model, **options)
        if n > MAX_UNARY_IMAGES:
            return sorted(self._stream(request, n, deadline_s), key=lambda image: image.index)
        with self._translated(deadline_s) as timeout_s:
            return read_generated(self._stub.Generate(request, timeout=timeout_s))

    def generate_stream(
        self, model: str, *, deadline_s: float | None = None, **options: Unpack[GenerateOptions]
    ) -> Iterator[GeneratedImage]:
        """Images as soon as each is ready, in any order: `index` is the position in the request.

        Arguments as for `generate`. Closing the iterator cancels the images that are not generated yet.
        """
        request, n = generate_request(model, **options)
        return self._stream(request, n, deadline_s)

    @overload
    def upscale(  # type: ignore[overload-overlap]  # text and bytes are sequences too
        self, model: str, image: Picture, *, deadline_s: float | None = None, **options: Unpack[UpscaleOptions]
    ) -> Upscaled: ...

    @overload
    def upscale(
        self, model: str, image: Pictures, *, deadline_s: float | None = None, **options: Unpack[UpscaleOptions]
    ) -> list[Upscaled]: ...

    def upscale(
        self,
        model: str,
        image: Picture | Pictures,
        *,
        deadline_s: float | None = None,
        **options: Unpack[UpscaleOptions],
    ) -> Upscaled | list[Upscaled]:
        """The image, enlarged by a super-resolution model.

        Args:
            model: name of the model.
            image: a path, an encoded file's bytes (or bytearray, memoryview), a binary file, a PIL image of any mode,
                another call's result, or an array (H, W) or (H, W, 1 to 4) of uint8, uint16 or floats 0..1. A list of
                these is many images: several calls at a time, answered as a list in its order.
            deadline_s: maximum time in seconds; None: the client's.
            scale: float above 0, as 2, 3 or 1.5. None: the model's own. The network enlarges once or several times, and
                the result is resampled to the size.
            width: of the result in px; None: not given. Of one side alone, the other follows from the image's ratio.
            height: likewise.
            fit: with both, "contain" (default: the image fits into them), "cover" (it covers them, and what is beyond
                is cut off) or "fill" (it is stretched).
            resample: how the network's image is brought to the size: "lanczos" (default), or "area", the mean of what
                each pixel covers, for a smaller one.
            tta: whether the image goes through flipped and turned in eight ways, for their mean; eight times the work.
            alpha: "keep" (default) enlarges the alpha channel too, "drop" removes it.
            format: "png" (default), "jpeg", "webp" or "raw" (uint8 pixels); png and raw are lossless.
            quality: int, 1..100 for jpeg and webp (default 90), compression level 0..9 for png (default 1).
            bits: 8 or 16, of png and raw; None: of png as many as the image has, if the model can, else 8. What was
                lost is in the result's `warnings`.
            metadata: "icc" (default) keeps what colours mean and the density, "keep" also EXIF (upright, of the new
                size, without thumbnail), XMP, IPTC and texts, "strip" nothing.
            version: version of the model; "" (default): the newest that is ready.

        Raises:
            ServerError: one of its subclasses.
            OSError: the file cannot be read.
        """
        if is_many(image):
            return in_order(lambda each: self.upscale(model, each, deadline_s=deadline_s, **options), image)
        request = upscale_request(model, image, **options)
        with self._translated(deadline_s) as timeout_s:
            return read_upscaled(self._stub.Upscale(request, timeout=timeout_s))

    def upscale_stream(
        self,
        model: str,
        image: Picture,
        *,
        on_progress: OnProgress | None = None,
        deadline_s: float | None = None,
        **options: Unpack[UpscaleOptions],
    ) -> Upscaled:
        """`upscale` for work that takes long and for images that fit into no message: the server says how far it is.

        Args:
            model: as for `upscale`, as are all others.
            image: one, not a list.
            on_progress: called with the tiles that are done, and how many there are at most.
            deadline_s: how long the server may say nothing, however long the work takes; None: the client's.

        Raises:
            ServerError: one of its subclasses.
            OSError: the file cannot be read.
        """
        request = upscale_request(model, image, **options)
        with self._translated(deadline_s) as silence_s:
            return collect(self._stub.UpscaleStream(request), silence_s, on_progress)

    @overload
    def translate(  # type: ignore[overload-overlap]  # text and bytes are sequences too
        self, model: str, image: Picture, *, deadline_s: float | None = None, **options: Unpack[TranslateOptions]
    ) -> Translated: ...

    @overload
    def translate(
        self, model: str, image: Pictures, *, deadline_s: float | None = None, **options: Unpack[TranslateOptions]
    ) -> list[Translated]: ...

    def translate(
        self,
        model: str,
        image: Picture | Pictures,
        *,
        deadline_s: float | None = None,
        **options: Unpack[TranslateOptions],
    ) -> Translated | list[Translated]:
        """The image, turned into another of the same size by an image-to-image model.

        Args:
            model: name of the model.
            image: as for `upscale`, also a list. The server pads an image if the network requires multiples of some
                size.
            deadline_s: maximum time in seconds; None: the client's.
            labels: attributes that it shall have and no others ("": none), or its domain: names (str), indices (int).
            seed: int, 0..2**32-1, of the style in the domain, for models that take styles. None: 0.
            reference: an image like `image`, in the domain, whose style is wanted instead.
            tta: as for `upscale`; models that draw images from label maps or styles refuse it.
            alpha: "keep" (default) returns the alpha channel unchanged, "drop" removes it.
            format: "png" (default), "jpeg", "webp" or "raw" (uint8 pixels); png and raw are lossless.
            quality: int, 1..100 for jpeg and webp (default 90), compression level 0..9 for png (default 1).
            bits: 8 or 16, of png and raw; None: of png as many as the image has, if the model can, else 8. What was
                lost is in the result's `warnings`.
            metadata: "icc" (default) keeps what colours mean and the density, "keep" also EXIF (upright, of the new
                size, without thumbnail), XMP, IPTC and texts, "strip" nothing.
            version: version of the model; "" (default): the newest that is ready.

        Raises:
            ServerError: one of its subclasses.
            OSError: the file cannot be read.
        """
        if is_many(image):
            return in_order(lambda each: self.translate(model, each, deadline_s=deadline_s, **options), image)
        request = translate_request(model, image, **options)
        with self._translated(deadline_s) as timeout_s:
            return read_translated(self._stub.Translate(request, timeout=timeout_s))

    @overload
    def score(  # type: ignore[overload-overlap]  # text and bytes are sequences too
        self, model: str, image: Picture, *, deadline_s: float | None = None, **options: Unpack[ScoreOptions]
    ) -> ImageScore: ...

    @overload
    def score(
        self, model: str, image: Pictures, *, deadline_s: float | None = None, **options: Unpack[ScoreOptions]
    ) -> list[ImageScore]: ...

    def score(
        self, model: str, image: Picture | Pictures, *, deadline_s: float | None = None, **options: Unpack[ScoreOptions]
    ) -> ImageScore | list[ImageScore]:
        """What the model's critic says of an image: its discriminator, exported beside it.

        Args:
            model, image: as for `upscale`, also a list.
            deadline_s: maximum time of a call (of up to 64 images) in seconds; None: the client's.
            labels: class indices (int) or names (str), one for all or one for each, if the critic takes labels.
            fit: images of another size: "cover" cuts them, "fill" stretches. None: they are refused.
            version: version of the model; "" (default): the newest that is ready.

        Raises:
            ServerError: one of its subclasses; OSError if a file cannot be read.
        """
        found: list[ImageScore] = []
        for request in score_requests(model, image, **options):
            with self._translated(deadline_s) as timeout_s:
                found += read_scores(self._stub.Score(request, timeout=timeout_s))
        return found if is_many(image) else found[0]

    def encode(
        self, model: str, image: Picture, *, version: str = "", deadline_s: float | None = None
    ) -> NDArray[np.float32]:
        """The w (layers, length) that an encoder guesses of an image, for `ws` of its generator. The image's middle
        is cut and resized to the encoder's size; it must be aligned as the encoder's training data were."""
        request = encode_request(self.models(deadline_s=deadline_s), model, version, image)
        with self._translated(deadline_s) as timeout_s:
            return read_w(self._stub.ModelInfer(request, timeout=timeout_s))

    def _stream(self, request: pb.GenerateRequest, n: int, deadline_s: float | None) -> Iterator[GeneratedImage]:
        for part, places in split_request(request, n):
            with self._translated(deadline_s) as timeout_s:
                remaining = RemainingImages(part, places, timeout_s)
                for attempt in remaining.attempts(self._stub.GenerateStream, resumes=self._retries > 0):
                    with attempt as call:
                        for reply in call:
                            yield remaining.receive(reply)
