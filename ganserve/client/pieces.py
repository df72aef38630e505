"""An upscaled image that comes as a stream: its pieces put together, and a limit for how long the server is silent."""

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import grpc

from ganserve.client.errors import DeadlinePassed
from ganserve.client.results import Upscaled, read_upscaled
from ganserve.v1 import images_pb2 as pb

OnProgress = Callable[[int, int], None]
"""Gets the tiles that are done, and how many there are at most."""


def silent(silence_s: float | None) -> DeadlinePassed:
    """The error of a call of which nothing was heard."""
    text = f"the server said nothing for {silence_s:g} s; allow more time: deadline_s, --deadline"
    return DeadlinePassed(text, grpc.StatusCode.DEADLINE_EXCEEDED)


class Pieces:
    """The stream's messages as they come."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._data: list[bytes] = []
        self._reply = pb.UpscaleReply()

    def add(self, message: pb.UpscaleStreamReply) -> None:
        """Takes the next message."""
        if message.data:
            self._data.append(message.data)
        if message.HasField("result"):
            self._reply = message.result
        if self._on_progress is not None:
            self._on_progress(message.tiles_done, message.tiles)

    @property
    def result(self) -> Upscaled:
        """The image, after the last message."""
        self._reply.image.data = b"".join(self._data)
        return read_upscaled(self._reply)


class Patience:
    """Ends a call of which nothing is heard for `silence_s` seconds; None: never.

    Raises:
        DeadlinePassed: it did.
    """

    def __init__(self, call: Any, silence_s: float | None) -> None:
        self._call = call
        self._silence_s = silence_s
        self._timer: threading.Timer | None = None
        self._over = False

    def heard(self) -> None:
        """Something came: the time begins anew."""
        if self._timer is not None:
            self._timer.cancel()
        if self._silence_s is not None:
            self._timer = threading.Timer(self._silence_s, self._end)
            self._timer.daemon = True
            self._timer.start()

    def __enter__(self) -> Self:
        self.heard()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if error is not None:
            self._call.cancel()
        if self._over and error is not None:
            raise silent(self._silence_s) from None

    def _end(self) -> None:
        self._over = True
        self._call.cancel()


def collect(call: Iterable[pb.UpscaleStreamReply], silence_s: float | None, on_progress: OnProgress | None) -> Upscaled:
    """The image of a stream, for the blocking client."""
    pieces = Pieces(on_progress)
    with Patience(call, silence_s) as patience:
        for message in call:
            patience.heard()
            pieces.add(message)
    return pieces.result
