"""What a ClusterIP Service does: each new connection goes to one ready replica and stays there."""

import contextlib
import itertools
import socket
import socketserver
import threading
from typing import Self

from tests.scale.name_server import NameServer


class ClusterAddress:
    """A TCP port before every replica in the DNS; knows nothing of calls."""

    def __init__(self, names: NameServer, replica_port: int) -> None:
        turns = itertools.count()

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                hosts = names.addresses
                host = hosts[next(turns) % len(hosts)]
                with contextlib.suppress(OSError), socket.create_connection((host, replica_port)) as replica:
                    back = threading.Thread(target=_pass_on, args=(replica, self.request))
                    back.start()
                    _pass_on(self.request, replica)
                    back.join()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def server(self) -> str:
        """Where callers connect."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Every byte, and then the end."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
