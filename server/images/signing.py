"""Content Credentials (C2PA): images are signed by whom they are from, with what was done to them.

Each signature is another (a random number, an identifier), so images are signed on their way out: those that are kept
for equal requests are not signed.
"""

import importlib
import io
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from server.errors import InferenceFailed, StartError
from server.images.codecs import DecodedImage, Encoding, encode
from server.images.header import Format
from server.images.marking import Source

MEDIA_TYPES = {Format.PNG: "image/png", Format.JPEG: "image/jpeg", Format.WEBP: "image/webp"}
# Certificates' keys: what they sign with.
_ALGORITHMS = ("es256", "es384", "es512", "ps256", "ed25519")
# No thumbnails, which take a hundred times as long as the rest; nothing is fetched from where a sent image says.
_SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"verify_after_sign": False, "remote_manifest_fetch": False, "ocsp_fetch": False},
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parent:
    """The image that another was made from, as it was sent."""

    data: bytes
    kind: Format


class Signer:
    """Signs with a certificate and its key, which are read again when they change. Any thread."""

    def __init__(self, certificate: Path, key: Path, version: str) -> None:
        """Raises:
        StartError: c2pa-python is not installed, or they cannot sign.
        """
        try:
            self._c2pa: Any = importlib.import_module("c2pa")  # of servers that sign alone
        except ModuleNotFoundError:
            raise StartError("c2pa_certificate needs c2pa-python: pip install 'ganserve[c2pa]'") from None
        self._paths = certificate, key
        self._generator = {"name": "ganserve", "version": version}
        self._context = self._c2pa.Context(self._c2pa.Settings.from_dict(_SETTINGS))
        self._lock = threading.Lock()
        self._read_at = self._stamp()
        self._signer = self._read()

    def sign(self, data: bytes, kind: Format, source: Source, parent: Parent | None = None) -> tuple[bytes, str]:
        """The image with its manifest, and a warning if that of `parent` is not in it.

        Raises:
            InferenceFailed: it cannot be signed.
        """
        try:
            return self._sign(self._current(), data, kind, source, parent), ""
        except self._c2pa.C2paError as error:
            if parent is None:
                raise InferenceFailed(f"the image cannot be signed: {error}") from error
        log.info("no ingredient", extra={"fields": {"reason": "the sent image cannot be read for C2PA"}})
        found, _ = self.sign(data, kind, source)
        return found, "the sent image could not be read for C2PA: it is no ingredient of the manifest"

    def _sign(self, signer: Any, data: bytes, kind: Format, source: Source, parent: Parent | None) -> bytes:
        """Raises c2pa.C2paError."""
        builder = self._c2pa.Builder(self._manifest(source, parent), self._context)
        try:
            if parent is not None:
                builder.set_intent(self._c2pa.C2paBuilderIntent.EDIT)
                ingredient = {"title": "input", "relationship": "parentOf"}
                builder.add_ingredient(ingredient, MEDIA_TYPES[parent.kind], io.BytesIO(parent.data))
            signed = io.BytesIO()
            builder.sign(signer, MEDIA_TYPES[kind], io.BytesIO(data), signed)
            return signed.getvalue()
        finally:
            builder.close()

    def _manifest(self, source: Source, parent: Parent | None) -> dict[str, Any]:
        action: dict[str, Any] = {"digitalSourceType": str(source), "softwareAgent": self._generator}
        action["action"] = "c2pa.created" if parent is None else "c2pa.edited"
        actions = {"label": "c2pa.actions.v2", "data": {"actions": [action]}}
        return {"claim_generator_info": [self._generator], "assertions": [actions]}

    def _current(self) -> Any:
        with self._lock:
            stamp = self._stamp()
            if stamp != self._read_at:
                self._read_at = stamp
                try:
                    self._signer = self._read()
                except StartError as error:
                    fields = {"reason": str(error)}
                    log.warning("certificate not read; the one before stays in use", extra={"fields": fields})
            return self._signer

    def _stamp(self) -> list[tuple[int, int]]:
        try:
            return [(found.st_mtime_ns, found.st_size) for found in (path.stat() for path in self._paths)]
        except OSError:
            return []

    def _read(self) -> Any:
        """What signs, tried on a small image: the library finds what is wrong with a certificate only then."""
        certificate, key = (_bytes_of(path) for path in self._paths)
        small = encode(DecodedImage(np.zeros((8, 8, 3), np.uint8)), Encoding.of(Format.PNG, None))
        problem = ""
        for algorithm in _ALGORITHMS:
            try:
                signer = self._c2pa.Signer.from_info(self._c2pa.C2paSignerInfo(algorithm, certificate, key, None))
                signed = self._sign(signer, small, Format.PNG, Source.GENERATED, None)
                state = self._c2pa.Reader(MEDIA_TYPES[Format.PNG], io.BytesIO(signed)).get_validation_state()
                if state in ("Valid", "Trusted"):
                    return signer
                problem = "what they sign is not valid: the key is not the certificate's, or it is not of its time"
            except (self._c2pa.C2paError, ValueError) as error:
                problem = problem or str(error)
        raise StartError(
            f"c2pa_certificate {self._paths[0]}, c2pa_key {self._paths[1]}: they cannot sign ({problem}); C2PA wants "
            f"the PEM chain of a certificate for signing documents, and its key for {', '.join(_ALGORITHMS)}"
        )


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartError(f"c2pa_certificate, c2pa_key: {path}: {error.strerror or error}") from None
