"""How many connections the ports may have, so that the process never runs out of file descriptors.

Out of descriptors nothing can be accepted, opened or read: the probes fail although the server works. So the limits of
all ports together leave some.
"""

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

MAX_HTTP_CONNECTIONS = 64
# For models, certificates and what drivers and engines open; of a small limit a quarter.
SPARE_DESCRIPTORS = 256
CHECK_EVERY_S = 0.25
# After some were closed: as many may have waited to be accepted.
CHECK_AGAIN_S = 0.02
# In the tables of /proc/net
ESTABLISHED = "01"
# In Linux' struct tcp_info: milliseconds since data was sent and received.
TCP_INFO_BYTES, LAST_SENT, LAST_RECEIVED = 56, 44, 52
ACKED = 120  # bytes that the other side has, likewise

Address = tuple[str, int]  # host and port, of IPv4 although the socket listens for both


@dataclass(frozen=True)
class Connections:
    """How many each port may have."""

    grpc: int
    http: int  # of the probes
    rest: int  # of the HTTP API


def share_descriptors(max_connections: int, max_http_connections: int) -> Connections:
    """Raises the process's limit of descriptors as far as needed and allowed, and shares it out.

    Args:
        max_connections: of gRPC, if the limit allows so many.
        max_http_connections: of the HTTP API, likewise.
    """
    used = len(_open_descriptors())
    needed = used + SPARE_DESCRIPTORS + MAX_HTTP_CONNECTIONS + max_connections + max_http_connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (needed if limit == resource.RLIM_INFINITY else limit for limit in (soft, hard))
    if soft < needed and soft < hard:
        soft = min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if soft >= needed:
        return Connections(max_connections, MAX_HTTP_CONNECTIONS, max_http_connections)
    left = max(3, soft - used - min(SPARE_DESCRIPTORS, soft // 4))
    http = max(1, min(MAX_HTTP_CONNECTIONS, left // 4))
    rest = max(1, min(max_http_connections, left // 4))
    found = Connections(max(1, min(max_connections, left - http - rest)), http, rest)
    fields = {"open_files": soft, "max_connections": found.grpc, "max_http_connections": found.rest}
    log.warning("the limit of open files (ulimit -n) allows fewer connections", extra={"fields": fields})
    return found


def established(port: int) -> int | None:
    """How many connections a port of this machine has; None where the system does not tell."""
    local, number = f":{port:04X}", 0
    for table in ("tcp", "tcp6"):
        try:
            with Path("/proc/self/net", table).open() as lines:
                rows = (line.split(maxsplit=4) for line in lines)  # number, local address, remote address, state
                number += sum(row[1].endswith(local) and row[3] == ESTABLISHED for row in rows)
        except OSError:
            return None
    return number


class Eviction:
    """Closes the connections of a port that have been silent longest while there are more than `limit`.

    For the native front end, which limits nothing itself and keeps its sockets to itself: they are found among the
    descriptors of this process, and shut down as if the client had left. Nothing tells when one is accepted, so they
    are counted four times a second, and when a port of the loop's could not accept one. Loop thread only.
    """

    def __init__(self, port: int, limit: int) -> None:
        self._port, self._limit = port, limit
        self._lacking = 0  # times that no descriptor was left
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._note)
        self._timer: asyncio.Handle = loop.call_later(CHECK_EVERY_S, self._look)

    def close(self) -> None:
        """Looks no more."""
        self._timer.cancel()
        asyncio.get_running_loop().set_exception_handler(None)

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Of an error that the loop would log: asyncio tries to accept a hundred connections although none fits."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
            return
        self._lacking += 1
        if self._lacking == 1:
            self._timer.cancel()
            self._timer = loop.call_soon(self._look)

    def _look(self) -> None:
        closed = self._close_excess()
        if self._lacking:
            log.warning("no file descriptor left for a connection", extra={"fields": {"times": self._lacking}})
            self._lacking = 0
        if closed:
            fields = {"closed": closed, "limit": self._limit}
            log.warning("too many gRPC connections (max_connections)", extra={"fields": fields})
        after_s = CHECK_AGAIN_S if closed else CHECK_EVERY_S
        self._timer = asyncio.get_running_loop().call_later(after_s, self._look)

    def _close_excess(self) -> int:
        """How many were closed."""
        descriptors = _open_descriptors()
        if len(descriptors) <= self._limit:
            return 0
        found = [(ms, fd) for fd in descriptors if (ms := self._silent_ms(fd)) is not None]
        excess = sorted(found, reverse=True)[: max(0, len(found) - self._limit)]
        for _, descriptor in excess:
            self._silent_ms(descriptor, ends=True)  # looks again: it may be another file's by now
        return len(excess)

    def _silent_ms(self, descriptor: int, ends: bool = False) -> int | None:
        """For how long nothing has come or gone; None: it is no connection of the port. `ends`: if it is, end it.

        Needs no other descriptor, of which there may be none left.
        """
        try:
            found = socket.socket(fileno=descriptor)
        except OSError:
            return None
        try:
            if found.getsockname()[1:2] != (self._port,):
                return None
            found.getpeername()  # fails for the socket that listens
            info = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
            if ends:
                found.shutdown(socket.SHUT_RDWR)
        except OSError:
            return None
        finally:
            found.detach()  # it is the front end's
        return min(int(struct.unpack_from("I", info, at)[0]) for at in (LAST_SENT, LAST_RECEIVED))


def end_connections(port: int, peers: Collection[Address]) -> int:
    """Ends the connections that come to a port of this process from these addresses; how many there were."""
    number = 0
    for peer, found in _connections(port):
        if peer in peers:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)
                number += 1
    return number


def acknowledged(port: int) -> dict[Address, tuple[int, int]]:
    """The connections that come to a port of this process: each one's inode, and how many bytes have arrived at the
    other side."""
    bytes_of = {}
    for peer, found in _connections(port):
        with contextlib.suppress(OSError):
            info = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, ACKED + 8)
            bytes_of[peer] = os.fstat(found.fileno()).st_ino, int(struct.unpack_from("Q", info, ACKED)[0])
    return bytes_of


def _connections(port: int) -> Iterator[tuple[Address, socket.socket]]:
    """With the addresses that they come from."""
    for descriptor in _open_descriptors():
        try:
            found = socket.socket(fileno=descriptor)
        except OSError:
            continue
        try:
            if found.getsockname()[1:2] == (port,):
                yield _plain(found.getpeername()), found  # fails for the socket that listens
        except OSError:
            pass
        finally:
            found.detach()  # it is the front end's


def _plain(address: tuple[Any, ...]) -> Address:
    """As gRPC names it."""
    return str(address[0]).removeprefix("::ffff:"), int(address[1])


def _open_descriptors() -> list[int]:
    """Those of this process; if none is left to read the list with, all that may be open."""
    try:
        return [int(each.name) for each in Path("/dev/fd").iterdir()]
    except OSError:
        return list(range(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
