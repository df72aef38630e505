"""Memory budget of all requests together for images being decoded, transformed or encoded."""

from collections.abc import Iterator
from contextlib import contextmanager

from server.errors import Overloaded


class MemoryBudget:
    """Bytes that decoded images and canvases may hold. Loop thread only."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0

    @contextmanager
    def reserve(self, nbytes: int) -> Iterator[None]:
        """Counts `nbytes` while the context lasts. A request that is alone always fits.

        Raises:
            Overloaded: other requests hold too much.
        """
        if self._held_bytes and self._held_bytes + nbytes > self._limit_bytes:
            raise Overloaded(
                f"the image needs {nbytes} bytes, others hold {self._held_bytes}, limit {self._limit_bytes} "
                "(max_queue_bytes)"
            )
        self._held_bytes += nbytes
        try:
            yield
        finally:
            self._held_bytes -= nbytes
