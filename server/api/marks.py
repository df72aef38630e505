"""Marks of images, as their models want them."""

import importlib.metadata
from collections.abc import Collection
from dataclasses import replace

from server.errors import StartError
from server.images.codecs import Encoding
from server.images.generate import GeneratedImage
from server.images.header import Format, Header
from server.images.marking import Mark, Marking, Source, source_of_changed
from server.images.signing import Parent, Signer
from server.images.transform import TransformedImage
from server.images.workers import Workers
from server.repository.model import Model
from server.settings import Settings


class Marks:
    """What images say of themselves, and who signs them."""

    def __init__(self, settings: Settings, workers: Workers) -> None:
        """Raises:
        StartError: nothing can be signed as the settings want it.
        """
        self._workers = workers
        self._signer: Signer | None = None
        certificate, key = settings.c2pa_certificate, settings.c2pa_key
        if (certificate is None) != (key is None):
            raise StartError("c2pa_certificate and c2pa_key: one is set without the other; set both, or neither")
        if certificate is not None and key is not None:
            self._signer = Signer(certificate, key, importlib.metadata.version("ganserve"))
        elif settings.mark == "c2pa":
            raise StartError("mark c2pa: set c2pa_certificate and c2pa_key, which images are signed with")

    def of_generated(self, encoding: Encoding, models: Collection[Model]) -> Encoding:
        """The encoding of an image that a generator made, and further models: they mark it as one of them wants."""
        return _with(encoding, max(model.mark for model in models), Source.GENERATED)

    def of_changed(self, encoding: Encoding, model: Model, sent: bytes) -> Encoding:
        """The encoding of an image that a network made of the one that was sent."""
        return _with(encoding, model.mark, source_of_changed(sent)) if model.mark else encoding

    async def sign(self, image: GeneratedImage, encoding: Encoding) -> GeneratedImage:
        """The image as it is sent: signed, if its model wants it.

        Raises:
            InferenceFailed: it cannot be signed.
        """
        if not is_signed(encoding):
            return image
        data, _ = await self.sign_bytes(image.data, encoding)
        return replace(image, data=data)

    async def sign_changed(
        self, image: TransformedImage, encoding: Encoding, sent: bytes, header: Header
    ) -> TransformedImage:
        """As `sign`, of an image that was made of `sent`."""
        if not is_signed(encoding):
            return image
        data, warning = await self.sign_bytes(image.data, encoding, sent, header)
        return replace(image, data=data, warnings=(*image.warnings, *([warning] if warning else [])))

    async def sign_bytes(
        self, data: bytes, encoding: Encoding, sent: bytes = b"", header: Header | None = None
    ) -> tuple[bytes, str]:
        """The signed image, and a warning if there is one; see `sign`."""
        assert self._signer is not None, "a model's mark is checked when it is loaded"
        assert encoding.marking is not None, "is_signed was asked"
        parent = None if header is None or header.format is Format.RAW else Parent(sent, header.format)
        return await self._workers.run(self._signer.sign, data, encoding.format, encoding.marking.source, parent)


def is_signed(encoding: Encoding) -> bool:
    """Whether images of this encoding are signed: raw pixels are not."""
    return encoding.marking is not None and encoding.marking.is_signed and encoding.format is not Format.RAW


def _with(encoding: Encoding, mark: Mark, source: Source) -> Encoding:
    if mark is Mark.NONE:
        return encoding
    return replace(encoding, marking=Marking(source, mark is Mark.C2PA))
