"""Calls that the native front end hands on to grpc.aio: neither may wait for the other for ever."""

import asyncio
import contextlib
from collections.abc import AsyncIterable, Callable
from typing import Any, Self


class RelayedMessages:
    """The messages of such a call's client. They go on if whoever waits for one is cancelled; grpc.aio's end."""

    def __init__(self, messages: AsyncIterable[bytes], parse: Callable[[bytes], Any]) -> None:
        self._messages = messages
        self._parse = parse
        self._coming: asyncio.Future[bytes] | None = None  # the next, which somebody waits for or has waited for

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return self._parse(await self._take())

    async def drop(self) -> None:
        """Takes what still comes, until there is no more."""
        with contextlib.suppress(Exception):  # the end, or the call has ended
            while True:
                await self._take()

    def end(self) -> None:
        """The call has ended."""
        if self._coming is not None:
            self._coming.cancel()

    async def _take(self) -> bytes:
        if self._coming is None:
            self._coming = asyncio.ensure_future(self._next())
            self._coming.add_done_callback(_retrieve)
        message = await asyncio.shield(self._coming)
        self._coming = None
        return message

    async def _next(self) -> bytes:
        return await anext(aiter(self._messages))  # always the same one; unused if the call is refused


class RelayedContext:
    """The context of such a call.

    While nobody takes a client's messages the front end does not see that the client has left, and keeps its
    connection to grpc.aio; and grpc.aio, once it has a status to send, gives out no message. So what a call still gets
    is taken and dropped before its status is sent, until its client has read what was written, or has no more to say,
    or has left. That may take as long as the client likes: it would not get the status before in any case.
    """

    def __init__(self, context: Any, messages: RelayedMessages) -> None:
        self._context = context
        self._messages = messages
        self._writing: asyncio.Future[None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: object) -> None:
        """Returns when there is room for the next message; goes on if the caller does not wait for it."""
        self._writing = asyncio.ensure_future(self._context.write(message))
        self._writing.add_done_callback(_retrieve)
        await asyncio.shield(self._writing)

    async def abort(self, *status: Any) -> None:
        """Ends the call with a status; raises as grpc.aio's does."""
        if self._writing is not None and not self._writing.done():
            dropping = asyncio.create_task(self._messages.drop())
            try:
                await asyncio.wait({self._writing, dropping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                dropping.cancel()
        await self._context.abort(*status)


def _retrieve(future: "asyncio.Future[Any]") -> None:
    """Whoever still waits gets the error too; nobody may, once the client has left."""
    if not future.cancelled():
        future.exception()
