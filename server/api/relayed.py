"""Calls that the native front end hands on to grpc.aio: neither may wait for the other for ever."""

import asyncio
import contextlib
from typing import Any


class RelayedContext:
    """The context of such a call.

    While nobody takes a client's messages the front end does not see that the client has left, and keeps its
    connection to grpc.aio; and grpc.aio, once it has a status to send, gives out no message. So what a call still gets
    is taken and dropped before its status is sent, until its client has read what was written, or has no more to say.
    """

    def __init__(self, context: Any, requests: Any) -> None:
        self._context = context
        self._requests = requests
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
            dropping = asyncio.create_task(self._drop())
            try:
                await asyncio.wait({self._writing, dropping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                dropping.cancel()
        await self._context.abort(*status)

    async def _drop(self) -> None:
        with contextlib.suppress(Exception):  # the call has ended
            async for _ in self._requests:
                pass


def _retrieve(future: "asyncio.Future[None]") -> None:
    """Whoever still waits gets the error too; nobody may, once the client has left."""
    if not future.cancelled():
        future.exception()
