"""What a certificate says, read from its bytes: Python's ssl shows it only of certificates that it verifies."""

import ssl
from datetime import UTC, datetime
from typing import TypeAlias

from server.errors import StartError

_UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x17, 0x18, 0xA0
_FORMATS = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}
_END = "-----END CERTIFICATE-----"
# Object identifiers of kinds of keys: RSA, Ed25519, and elliptic curves with those of P-256, P-384 and P-521.
_RSA, _ED25519, _EC = (bytes.fromhex(each) for each in ("2a864886f70d010101", "2b6570", "2a8648ce3d0201"))
_CURVES = [bytes.fromhex(each) for each in ("2a8648ce3d030107", "2b81040022", "2b81040023")]

Elements: TypeAlias = list[tuple[int, bytes]]


def expiry_of(pem: bytes) -> float:
    """The end of the first certificate of a PEM file, which is the server's own, in unix time.

    Raises:
        StartError: it cannot be read.
    """
    try:
        kind, ends = _elements(_fields(pem)[3][1])[1]
        return datetime.strptime(ends.decode(), _FORMATS[kind]).replace(tzinfo=UTC).timestamp()
    except (ValueError, IndexError, KeyError) as error:
        raise StartError(f"TLS: the certificate's end cannot be read: {error!r}") from None


def check_key(pem: bytes) -> None:
    """Checks that gRPC can show the first certificate of a PEM file: its TLS library knows fewer keys than OpenSSL.

    Raises:
        StartError: it cannot, or the certificate cannot be read.
    """
    try:
        algorithm, *parameters = (value for _, value in _elements(_elements(_fields(pem)[5][1])[0][1]))
    except (ValueError, IndexError) as error:
        raise StartError(f"TLS: the certificate's key cannot be read: {error!r}") from None
    if algorithm not in (_RSA, _ED25519) and not (algorithm == _EC and parameters[0] in _CURVES):
        known = "RSA, P-256, P-384, P-521 and Ed25519"
        raise StartError(f"TLS: the certificate's key is of a kind that gRPC does not know; it knows {known}")


def _fields(pem: bytes) -> Elements:
    """Of a certificate: serial, algorithm, issuer, validity, subject, key, ..."""
    text = pem.decode("ascii", "replace")
    first = text[text.index("-----BEGIN CERTIFICATE-----") : text.index(_END) + len(_END)]
    # Certificate ::= { tbs: { [0] version?, serial, ... }, ... }
    tbs = _elements(_elements(_elements(ssl.PEM_cert_to_DER_cert(first))[0][1])[0][1])
    return tbs[1:] if tbs[0][0] == _VERSION else tbs


def _elements(data: bytes) -> Elements:
    """Tag and content of each element of DER."""
    found = []
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size]), at + size
        found.append((tag, data[at : at + length]))
        at += length
    return found
