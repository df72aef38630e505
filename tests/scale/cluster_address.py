"""What a ClusterIP Service does: each new connection goes to one ready replica and stays there."""

import contextlib
import itertools
import socket
import socketserver
import threading
from collections.abc import Callable, Sequence

from tests.scale.listening import Listening


class ClusterAddress(Listening):
    """A TCP port before all `endpoints`, as they are at that moment; knows nothing of calls."""

    def __init__(self, endpoints: Callable[[], Sequence[tuple[str, int]]]) -> None:
        turns = itertools.count()

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                ready = endpoints()
                chosen = ready[next(turns) % len(ready)]
                with contextlib.suppress(OSError), socket.create_connection(chosen) as replica:
                    back = threading.Thread(target=_pass_on, args=(replica, self.request))
                    back.start()
                    _pass_on(self.request, replica)
                    back.join()

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        server.daemon_threads = True
        super().__init__(server)

    @property
    def server(self) -> str:
        """Where callers connect."""
        return f"127.0.0.1:{self.port}"


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Every byte, and then the end."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
