"""TLS of the gRPC and HTTP API ports: checked at start, read again when a file changes. Only grpcio has it."""

import logging
import ssl
import threading
import time
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from server.api.certificate import check_key, expiry_of
from server.errors import StartError
from server.settings import Settings

# Files are looked at when a caller connects, at most so often.
LOOK_S = 1.0

log = logging.getLogger(__name__)


class Certificates:
    """The server's certificate and key, and the authorities of clients' certificates if they need any."""

    def __init__(self, certificate: Path, key: Path, client_authorities: Path | None) -> None:
        """Reads the files.

        Raises:
            StartError: one cannot be read, or the key is not the certificate's.
        """
        self._certificate, self._key, self._authorities = certificate, key, client_authorities
        self._reading = threading.Lock()  # gRPC asks in threads of its own
        self._looked_at = time.monotonic()
        self._signature = self._sign()
        self._first = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """For the port. gRPC asks for new certificates at each handshake; connections that are open keep theirs."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self._fetch,  # type: ignore[arg-type]  # the stubs forget that it may return None
            require_client_authentication=self._authorities is not None,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """What is new since the last call, None if nothing is or if it cannot be used."""
        with self._reading:
            now = time.monotonic()
            if now - self._looked_at < LOOK_S:
                return None
            self._looked_at = now
            signature = self._sign()
            if signature == self._signature:
                return None
            self._signature = signature
            try:
                found = self._read()
            except StartError as error:
                log.error(
                    "certificates not read; those read before stay in use", extra={"fields": {"reason": str(error)}}
                )
                return None
            log.info("certificates read again", extra={"fields": {"certificate": str(self._certificate)}})
            return found

    def expires_at(self) -> float:
        """When the certificate in use ends, unix time. Looks whether the files have changed."""
        self._fetch()
        return self._expires_at

    def context(self) -> ssl.SSLContext:
        """For the HTTP port. Each handshake looks whether the files have changed."""
        context = _Renewed(ssl.PROTOCOL_TLS_SERVER)
        context.renew = self._renew
        return context

    def _renew(self) -> ssl.SSLContext:
        self._fetch()
        return self._context

    @property
    def _files(self) -> list[Path]:
        return [each for each in (self._certificate, self._key, self._authorities) if each is not None]

    def _sign(self) -> list[tuple[int, int, int] | None]:
        return [signature_of(path) for path in self._files]

    def _read(self) -> grpc.ServerCertificateConfiguration:
        """The files' bytes, once OpenSSL has accepted them: gRPC would refuse callers without a reason."""
        try:
            for path in self._files:
                if path.exists() and not path.is_file():  # a pipe would block
                    raise OSError(f"{path.name} is not a file")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
            if self._authorities is not None:
                context.load_verify_locations(self._authorities)
                context.verify_mode = ssl.CERT_REQUIRED
            certificate, key, *authorities = [path.read_bytes().removeprefix(BOM_UTF8) for path in self._files]
        except (OSError, ValueError) as error:
            names = ", ".join(map(str, self._files))
            raise StartError(f"TLS: {names}: {getattr(error, 'reason', None) or error}") from None
        check_key(certificate)
        self._expires_at = expiry_of(certificate)
        self._context = context
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities[0] if authorities else None)


class _Renewed(ssl.SSLContext):
    """Shakes hands as the context does that `renew` returns at that moment. asyncio calls nothing else of a context."""

    renew: Callable[[], ssl.SSLContext]

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """See `ssl.SSLContext.wrap_bio`."""
        return self.renew().wrap_bio(*args, **options)


def certificates_of(settings: Settings) -> Certificates | None:
    """None: no TLS.

    Raises:
        StartError: a setting is missing, or a file cannot be used.
    """
    if settings.tls_certificate is None and settings.tls_key is None:
        if settings.tls_client_ca is not None:
            raise StartError("tls_client_ca needs tls_certificate and tls_key")
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        raise StartError("TLS needs both tls_certificate and tls_key")
    return Certificates(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)


def http_context(settings: Settings) -> ssl.SSLContext | None:
    """For the HTTP API's port; None: no TLS.

    Raises:
        StartError: as `certificates_of`.
    """
    certificates = certificates_of(settings)
    return None if certificates is None else certificates.context()


def signature_of(path: Path) -> tuple[int, int, int] | None:
    """Differs once the file was written again or replaced; None if it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _no_password() -> str:
    raise ValueError("the key is encrypted; only keys without a password are read")
