"""When a certificate ends, read from its bytes: Python's ssl shows it only of certificates that it verifies."""

import ssl
from datetime import UTC, datetime

from server.errors import StartError

_UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x17, 0x18, 0xA0
_FORMATS = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}
_END = "-----END CERTIFICATE-----"


def expiry_of(pem: bytes) -> float:
    """The end of the first certificate of a PEM file, which is the server's own, in unix time.

    Raises:
        StartError: it cannot be read.
    """
    try:
        text = pem.decode("ascii", "replace")
        first = text[text.index("-----BEGIN CERTIFICATE-----") : text.index(_END) + len(_END)]
        # Certificate ::= { tbs: { [0] version?, serial, algorithm, issuer, validity: { from, to }, ... }, ... }
        tbs = _elements(_elements(_elements(ssl.PEM_cert_to_DER_cert(first))[0][1])[0][1])
        validity = tbs[4 if tbs[0][0] == _VERSION else 3]
        kind, ends = _elements(validity[1])[1]
        return datetime.strptime(ends.decode(), _FORMATS[kind]).replace(tzinfo=UTC).timestamp()
    except (ValueError, IndexError, KeyError) as error:
        raise StartError(f"TLS: the certificate's end cannot be read: {error!r}") from None


def _elements(data: bytes) -> list[tuple[int, bytes]]:
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
