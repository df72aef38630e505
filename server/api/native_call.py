"""One call on the native front end: its bytes read, its method called, its answer handed over."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import grpc
from pygrpc_native import STREAM_FULL, STREAM_SENT, NativeGrpcFront

from server.api.native_unread import NativeUnread
from server.batching.standing import TooLate
from server.observability.trace import Metadata

# How often a stream looks whether its client has read, at first and in the end.
FIRST_LOOK_S, LAST_LOOK_S = 0.0005, 0.25


class Method(NamedTuple):
    """One RPC: a coroutine function of (request, call), whose result is the answer, or which writes a stream."""

    function: Callable[[Any, "NativeCall"], Any]
    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]
    is_stream: bool


class NativeCall:
    """One call: what its method gets as the context."""

    __slots__ = (
        "_at_end", "_deadline", "_front", "_max_bytes", "_metadata", "_method", "_peer", "_trailers", "_unread",
        "came_alone", "has_left", "number", "rejection", "task",
    )  # fmt: skip

    def __init__(
        self,
        front: NativeGrpcFront,
        number: int,
        method: Method,
        max_bytes: int,
        came_alone: bool,
        unread: NativeUnread | None,
        metadata: Metadata,
        peer: str,
        left_s: float | None,
    ) -> None:
        """`max_bytes`: of a message. `came_alone`: no other call at the same moment. `unread`: is told what is sent.
        `left_s`: until the call's deadline, None if it has none."""
        self.number = number
        self.came_alone = came_alone
        self.task: asyncio.Task[None] | None = None
        self.has_left = False  # the caller, or its deadline has passed
        self.rejection: tuple[TooLate, str, str] | None = None  # the RPC, the model
        self._front = front
        self._method = method
        self._max_bytes = max_bytes
        self._unread = unread
        self._metadata = metadata
        self._peer = peer
        self._deadline = None if left_s is None else time.monotonic() + left_s
        self._trailers: Sequence[tuple[str, str]] = ()
        self._at_end: list[Callable[[Any], object]] = []

    @property
    def is_stream(self) -> bool:
        """Whether its answer is one."""
        return self._method.is_stream

    async def run(self, message: bytes) -> None:
        """Reads the message, calls the method and sends its answer, unless the method has sent a stream."""
        method = self._method
        if len(message) > self._max_bytes:
            text = f"received message larger than max ({len(message)} vs. {self._max_bytes})"
            self.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
            return
        answer = await method.function(method.read(message), self)
        if method.is_stream:
            self._front.stream_end(self.number, self._trailers)
        elif (data := self._written(answer)) is not None:
            is_given = self._front.respond(self.number, data, None, self._trailers)
            if is_given and self._unread is not None:
                self._unread.gave(self._peer, len(data))

    def fail(self, code: grpc.StatusCode, text: str) -> None:
        """Ends the call with a status."""
        self._front.fail(self.number, code.value[0], text, self._trailers)

    def leave(self) -> None:
        """Nobody waits for the answer any more."""
        self.has_left = True
        if self.task is not None:
            self.task.cancel()

    def end(self) -> None:
        """The call has ended: its reply is in the front end's hands, or there is none."""
        for function in self._at_end:
            function(self)

    def note_rejection(self, error: TooLate, rpc: str, model: str) -> None:
        """The call is rejected."""
        self.rejection = error, rpc, model

    # What follows is of grpc.aio.ServicerContext.

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def peer(self) -> str:
        return self._peer

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def set_trailing_metadata(self, trailing_metadata: Sequence[tuple[str, str]]) -> None:
        self._trailers = trailing_metadata

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._at_end.append(callback)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        if trailing_metadata:
            self._trailers = trailing_metadata
        self.fail(code, details)
        raise grpc.aio.AbortError

    async def send_initial_metadata(self, initial_metadata: Sequence[tuple[str, str]]) -> None:
        self._front.stream_send_initial_metadata(self.number, initial_metadata)

    async def write(self, message: object) -> None:
        """Returns when there is room for the next message. What nobody can receive any more is dropped."""
        data, wait_s = self._written(message), FIRST_LOOK_S
        if data is None:
            return
        while (state := self._front.stream_try_send(self.number, data)) == STREAM_FULL:
            # Nothing tells when there is. `stream_send` waits, but keeps its thread for as long as the client likes,
            # also once the call has failed.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await asyncio.Event().wait()
            wait_s = min(2 * wait_s, LAST_LOOK_S)
        if state == STREAM_SENT and self._unread is not None:
            self._unread.gave(self._peer, len(data), is_reply=False)

    def _written(self, message: object) -> bytes | None:
        """The message's bytes; None, and the call has failed, if they are too many."""
        data = self._method.write(message)
        if len(data) <= self._max_bytes:
            return data
        self.fail(
            grpc.StatusCode.RESOURCE_EXHAUSTED, f"sent message larger than max ({len(data)} vs. {self._max_bytes})"
        )
        return None
