"""Memory that pictures may hold while they are worked on, of all requests together."""

from collections.abc import Iterator
from contextlib import contextmanager

from server.errors import Overloaded


class Room:
    """Bytes that decoded pictures and canvases may hold. Loop thread only."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0

    @contextmanager
    def hold(self, nbytes: int) -> Iterator[None]:
        """Counts `nbytes` while the context lasts. One request alone always fits.

        Raises:
            Overloaded: others hold too much.
        """
        if self._held_bytes and self._held_bytes + nbytes > self._limit_bytes:
            raise Overloaded(
                f"the picture needs {nbytes} bytes, others hold {self._held_bytes}, limit {self._limit_bytes} "
                "(max_queue_bytes)"
            )
        self._held_bytes += nbytes
        try:
            yield
        finally:
            self._held_bytes -= nbytes
