"""Where the server is: what people write for an address, as gRPC takes it, and what answers there if calls fail."""

import os
import re
import socket
import ssl
from dataclasses import dataclass

VARIABLE = "GANSERVE_SERVER"
DEFAULT = "localhost:8001"
PORT = 8001
PROBE_S = 2.0
PLAIN_SCHEMES = ("http", "grpc")
TLS_SCHEMES = ("https", "grpcs")
GRPC_SCHEMES = ("dns:", "unix:", "unix-abstract:", "vsock:", "xds:", "ipv4:", "ipv6:")
HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+)(?::(\d{1,5}))?")
# The first bytes of a server's HTTP/2 on plain text: a SETTINGS frame on stream 0, after 3 bytes of length.
SETTINGS_FRAME = b"\x04"
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"


@dataclass(frozen=True)
class Address:
    """A gRPC target, whether it is called by TLS, and as it is called in messages."""

    target: str
    tls: bool
    shown: str

    @staticmethod
    def of(server: str | None, tls: bool) -> "Address":
        """From what a caller passes, else from GANSERVE_SERVER, else localhost:8001.

        Args:
            server: host:port, a gRPC target (`dns:///name:port`, `unix:path`), or a URL, whose scheme is taken off:
                `https://` asks for TLS. Without a port it is 8001.
            tls: whether the caller has credentials.

        Raises:
            ValueError: a URL with a path or of another scheme, no port from 1 to 65535, or nothing.
        """
        given = os.environ.get(VARIABLE, "") or DEFAULT if server is None else server
        scheme, mark, rest = given.partition("://")
        if mark and scheme in (*PLAIN_SCHEMES, *TLS_SCHEMES):
            host, _, path = rest.partition("/")
            if path:
                raise ValueError(f"server must be HOST:PORT without a path, got {given!r}")
            return Address(_with_port(host), tls or scheme in TLS_SCHEMES, _with_port(host))
        if given.startswith(GRPC_SCHEMES):
            return Address(given, tls, given)
        bare = _with_port(given.strip())
        return Address(bare, tls, bare)

    @property
    def host_and_port(self) -> tuple[str, int] | None:
        """Of the first server that the target names; None if it names a file."""
        if self.target.startswith(("unix:", "unix-abstract:", "vsock:", "xds:")):
            return None
        first = self.target.rpartition("/")[2].partition(",")[0]
        first = first.removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:")
        host, _, port = first.rpartition(":")
        return (host.strip("[]"), int(port)) if host and port.isdecimal() and int(port) < 65536 else None


def _with_port(given: str) -> str:
    """HOST:PORT of what may be HOST alone."""
    found = HOST_AND_PORT.fullmatch(given)
    if found is None or not 0 < int(found[2] or PORT) < 65536:
        shown = repr(given) if given else "an empty text"
        advice = "; an IPv6 address is in brackets" if given.count(":") > 1 and not set("[/,") & set(given) else ""
        raise ValueError(f"server must be HOST:PORT, with a port of 1 to 65535, got {shown}{advice}")
    return f"{found[1]}:{found[2] or PORT}"


def diagnose(address: Address, timeout_s: float = PROBE_S) -> str | None:
    """Why calls to the address cannot work, in one sentence with what to do; None if a gRPC server answers there.

    Opens a connection of its own, or two, and sends nothing but greetings. May take `timeout_s` for each.
    """
    place = address.host_and_port
    if place is None:
        return None
    shown = address.shown
    try:
        greeting = _greeting(place, timeout_s)
    except socket.gaierror as error:
        return f"the name of the server {shown} is not known ({error.strerror or error}); check the spelling"
    except TimeoutError:
        return f"nothing answers at {shown} within {timeout_s:g} s; is a firewall in between?"
    except OSError as error:
        return f"no server answers at {shown} ({error.strerror or error}); is `ganserve serve` running?"
    if greeting.startswith(b"HTTP/1"):
        return f"{shown} is an HTTP port; the gRPC port is another (`ganserve serve` prints it, 8001 by default)"
    speaks_plain = greeting[3:4] == SETTINGS_FRAME
    if address.tls and speaks_plain:
        return f"the server at {shown} speaks plain text; leave out the CA and credentials, or https://"
    if not address.tls and not speaks_plain and _speaks_tls(place, timeout_s):
        return f"the server at {shown} speaks TLS; pass its CA (--ca FILE, or credentials= in Python), or https://"
    return None


def _greeting(place: tuple[str, int], timeout_s: float) -> bytes:
    """What answers an HTTP/2 greeting in plain text; empty if nothing does in time."""
    with socket.create_connection(place, timeout_s) as connection:
        try:
            connection.sendall(HTTP2_PREFACE)
            return connection.recv(64)
        except OSError:  # the connection stood: something listens, and is no HTTP/2 in plain text
            return b""


def _speaks_tls(place: tuple[str, int], timeout_s: float) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # only looks; nothing is said over it
    try:
        with (
            socket.create_connection(place, timeout_s) as connection,
            context.wrap_socket(connection, server_hostname=place[0]),
        ):
            return True
    except ssl.SSLError as error:
        return "CERTIFICATE_REQUIRED" in str(error)
    except OSError:
        return False
