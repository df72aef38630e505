"""Images at addresses: each has a tag that is known before the image is made, so caches on the way may keep it.

Serving is deterministic: the files of the networks, what runs them, the inputs and the encoder decide every byte.
"""

import hashlib
import importlib.metadata
import weakref
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
from PIL import features

from ganserve.v1 import images_pb2 as pb
from server.api.calls import Context, hold_of, hold_until_read
from server.api.images import ImageService
from server.api.kept_answers import KeptAnswers
from server.api.marks import is_signed
from server.errors import ModelNotFound
from server.images.generate import GenerateJob
from server.images.memory import COUNTED_BYTES, Hold, MemoryBudget
from server.observability.metrics import Metrics
from server.repository.model import Model

# What encodes images.
ENCODERS = [
    ("Pillow", PIL.__version__),
    ("isal", importlib.metadata.version("isal")),
    *((name, features.version(name)) for name in ("libjpeg_turbo", "jpg", "webp")),
]
# A pinned address has at least so many digits of `_pin`.
PIN_DIGITS = 12
# Of an answer, beside its image's bytes.
_ENTRY_BYTES = 1 << 10


@dataclass(frozen=True)
class ImageUrl:
    """What a request for an image at an address says.

    Attributes:
        message: one image.
        pin: the first digits of the networks' digest, as the address has them; empty: whatever is served.
        known: the tags of the images that the caller has; `*`: any.
        head: the image itself is not wanted.
    """

    message: pb.GenerateRequest
    pin: str = ""
    known: Collection[str] = ()
    head: bool = False

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.message.model)


@dataclass(frozen=True)
class ImageAt:
    """The answer.

    Attributes:
        tag: as ETag has it; empty for an image that has none.
        has: the caller has it.
        kept: it was there, or on its way.
        reply: with the image; None if the caller has it, or wants none and it would have to be made.
        pin: PIN_DIGITS of the networks' digest.
        scope: who may keep it, for Cache-Control.
    """

    tag: str
    has: bool
    kept: bool
    reply: pb.GenerateReply | None
    pin: str
    scope: str


class Making:
    """The call in which an image is made for all that wait for it: it may last longer than that of its first caller,
    who may leave. So what it holds is its own."""

    def __init__(self, context: Context, budget: MemoryBudget) -> None:
        self.hold = Hold(budget)
        self.time_remaining = context.time_remaining
        self._callbacks: list[Callable[[Any], None]] = []

    def add_done_callback(self, function: Callable[[Any], None]) -> None:
        """`function` is called when the image is made."""
        self._callbacks.append(function)

    def end(self) -> None:
        """It is made, or will not be."""
        for function in self._callbacks:
            function(self)


class _Changed(Exception):
    """A model was loaded anew since the tag was made."""


class ImagesByUrl:
    """Answers ImageUrls. Loop thread only."""

    def __init__(
        self, images: ImageService, answers: KeptAnswers, budget: MemoryBudget, metrics: Metrics, has_keys: bool
    ) -> None:
        """`has_keys`: callers need one, so that caches for everybody must not keep what one of them got."""
        self._images = images
        self._answers = answers
        self._budget = budget
        self._metrics = metrics
        self._scope = "private" if has_keys else "public"
        # Writing a manifest of a thousand classes takes most of a millisecond.
        self._digests: weakref.WeakKeyDictionary[Model, bytes] = weakref.WeakKeyDictionary()

    async def GetImage(self, request: ImageUrl, context: Context) -> ImageAt:
        """The image, or that the caller has it.

        Raises:
            ModelNotFound: no such model, or another than the address says.
            RequestError: as of Generate.
        """
        while True:
            try:
                return await self._get(request, context)
            except _Changed:
                continue

    async def _get(self, request: ImageUrl, context: Context) -> ImageAt:
        """Raises _Changed as well."""
        message = request.message
        with ExitStack() as visits:
            model, job, steps = await self._images.read(message, visits)
            models = (model, *steps)
            pin = self._pin(models)
            if not pin.startswith(request.pin):
                raise ModelNotFound(f"model {model.name!r}: {request.pin} is not served; {pin[:PIN_DIGITS]} is")
            pin = pin[:PIN_DIGITS]
            tag = "" if message.HasField("count") else _tag(job, models)
            encoding = job.encoding

        def check(model: Model, job: GenerateJob, steps: tuple[Model, ...]) -> None:
            models = (model, *steps)
            if not self._pin(models).startswith(pin) or (tag and _tag(job, models) != tag):
                raise _Changed

        async def compute() -> pb.GenerateReply:
            making: Any = Making(context, self._budget)
            try:
                return await self._images.generate(message, making, check, signs=False)
            finally:
                making.end()

        if not tag:  # the server chooses the seed
            return ImageAt("", False, False, await self._images.generate(message, context, check), pin, "")

        kept = False

        def told(is_hit: bool) -> None:
            nonlocal kept
            kept = is_hit
            self._metrics.image_at_url(message.model, "hit" if is_hit else "miss")

        key = tag.encode()
        if "*" in request.known or tag.removeprefix("W/") in request.known:
            self._metrics.image_at_url(message.model, "not_modified")
            return ImageAt(tag, True, False, None, pin, self._scope)
        if request.head:
            found = None if is_signed(encoding) else self._answers.find(key)
            return ImageAt(tag, False, True, found, pin, self._scope)
        reply = await self._answers.get(key, compute, _size_of, told)
        if (nbytes := _size_of(reply)) > COUNTED_BYTES:  # until the caller has read it, whether it is kept or not
            hold = hold_of(context, self._budget)
            hold_until_read(context, hold)
            hold.take(nbytes)
        if is_signed(encoding):  # not what is kept: each signature is another
            signed, _ = await self._images.marks.sign_bytes(reply.images[0].data, encoding)
            unsigned, reply = reply, pb.GenerateReply()
            reply.CopyFrom(unsigned)
            reply.images[0].data = signed
        return ImageAt(tag, False, kept, reply, pin, self._scope)

    def _pin(self, models: Collection[Model]) -> str:
        """A SHA-256 of all that addresses mean by words: the networks and their manifests, the names of directions."""
        digest = hashlib.sha256()
        for model in models:
            found = self._digests.get(model)
            if found is None:
                found = self._digests[model] = _words_of(model)
            digest.update(found)
        return digest.hexdigest()


def _words_of(model: Model) -> bytes:
    """A digest of what one of them means."""
    assert model.spec is not None, "the image API serves no other"
    names = [each.name for each in model.space.directions.found]
    return hashlib.sha256(f"{model.spec.to_json()}\0{names}".encode()).digest()


def _size_of(reply: pb.GenerateReply) -> int:
    return _ENTRY_BYTES + len(reply.images[0].data)


def _tag(job: GenerateJob, models: Collection[Model]) -> str:
    """The image's ETag. It is weak where an image may differ by a rounding with the batch that it is computed in, and
    where it is signed."""
    digest = hashlib.sha256(f"{ENCODERS}\0{job.encoding}\0{job.shape}".encode())
    for model in models:
        digest.update(f"\0{model.identity.digest}".encode())
    for name, array in job.arrays.items():
        values = array if any(array.strides) else array[(0,) * array.ndim]  # one number, whatever the shape
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode() + np.ascontiguousarray(values).tobytes())
    if job.changes is not None:
        digest.update(b"\0changes" + job.changes.digest())
    if job.selection is not None:
        digest.update(b"\0selection\0" + job.selection.digest())
    if job.noise is not None:
        digest.update(f"\0noise\0{list(job.noise.seeds)}".encode())
    tag = f'"{digest.hexdigest()[:32]}"'
    return tag if all(model.identity.is_exact for model in models) and not is_signed(job.encoding) else f"W/{tag}"
