"""A stream of the image API over HTTP, as server-sent events: progress, the image in pieces, in the end what it is."""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.api.rest.call import HttpContext, Refusal, to_json
from server.api.rest.image_reply import shown

EVENTS = "text/event-stream"
# Proxies end connections on which nothing comes.
_QUIET_S = 15.0
_COMMENT = b": waiting\n\n"


class Messages:
    """What a servicer's streaming method writes, while it runs; its context is the request's, which can be written to.

    Closing it cancels the method.
    """

    def __init__(self, context: HttpContext) -> None:
        self._context = context
        self._waiting: asyncio.Queue[Any] = asyncio.Queue(1)
        self._task: asyncio.Task[None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def send_initial_metadata(self, metadata: Any) -> None:
        """They are headers, which the reply has."""

    async def write(self, message: Any) -> None:
        """The method's next message; waits while the one before it is not taken."""
        await self._waiting.put(message)

    def start(self, method: Callable[[Any, Any], Awaitable[None]], request: Any) -> None:
        """Runs the method."""
        self._task = asyncio.ensure_future(method(request, self))

    async def next(self) -> Any:
        """The next message; None after the last one.

        Raises:
            Refusal: the method ended with another status than OK.
        """
        assert self._task is not None
        if not self._waiting.empty():
            return self._waiting.get_nowait()
        getting = asyncio.ensure_future(self._waiting.get())
        try:
            await asyncio.wait({getting, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                return getting.result()
            self._task.result()
            return None
        finally:
            getting.cancel()

    async def close(self) -> None:
        """Ends it, whether it is over or not."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def streaming(method: Callable[[Any, Any], Awaitable[None]]) -> Callable[[Any, HttpContext], Awaitable["Opened"]]:
    """`method` as one that answers when its first message is there: what is refused before has a status of its own."""

    async def begin(request: Any, context: HttpContext) -> Opened:
        messages = Messages(context)
        messages.start(method, request)
        try:
            return Opened(messages, await messages.next())
        except BaseException:
            await messages.close()
            raise

    return begin


class Opened:
    """A stream and its first message."""

    def __init__(self, messages: Messages, first: Any) -> None:
        self.messages = messages
        self.first = first


class EventReply(Response):
    """The events of a stream; the call ends when they were sent, or the client has left."""

    def __init__(self, opened: Opened, context: HttpContext) -> None:
        super().__init__(None, 200, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}, EVENTS)
        del self.headers["Content-Length"]  # it is not known: the body goes out in chunks
        self._messages, self._first = opened.messages, opened.first
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends them as they come."""
        gone = asyncio.create_task(_gone(Request(scope, receive)))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            message = self._first
            while message is not None:
                await send({"type": "http.response.body", "body": _events_of(message), "more_body": True})
                message = await self._next(gone, send)
            await send({"type": "http.response.body", "body": b""})
        except Refusal as error:
            body = _event("error", {"error": str(error), "code": error.code})
            await send({"type": "http.response.body", "body": body})
        finally:
            gone.cancel()
            await self._messages.close()
            self._context.end()

    async def _next(self, gone: "asyncio.Task[None]", send: Send) -> Any:
        """The next message; None after the last one, or if the client has left."""
        coming = asyncio.ensure_future(self._messages.next())
        try:
            while True:
                left_s = self._context.time_remaining()
                if left_s is not None and left_s <= 0:
                    raise Refusal("DEADLINE_EXCEEDED", "the time is over")
                quiet_s = _QUIET_S if left_s is None else min(_QUIET_S, left_s)
                await asyncio.wait({coming, gone}, timeout=quiet_s, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    return None
                if coming.done():
                    return coming.result()
                await send({"type": "http.response.body", "body": _COMMENT, "more_body": True})
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _events_of(message: Any) -> bytes:
    """Of one UpscaleStreamReply."""
    parts = [_event("progress", {"tiles_done": message.tiles_done, "tiles": message.tiles})]
    if message.data:
        parts.append(b"event: data\ndata: " + b64encode(message.data) + b"\n\n")
    if message.HasField("result"):
        result = message.result
        image = shown(result.image)
        del image["data"]
        found = {"model": result.model, "version": result.version, "image": image, "tiles": result.tiles}
        found |= {"batch": result.largest_batch, "timings": to_json(result.timings), "warnings": list(result.warnings)}
        parts.append(_event("result", found))
    return b"".join(parts)


def _event(name: str, content: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(content))
