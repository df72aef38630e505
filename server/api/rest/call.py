"""One HTTP request as a call of a gRPC servicer: its body read within the limits, its status as an HTTP code."""

import asyncio
import logging
import math
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import grpc
import orjson
from google.protobuf.message import Message
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.api.calls import PUSHBACK_KEY
from server.api.infer_answer import Raw
from server.errors import ImageTooLarge, InvalidRequest, Unsupported
from server.images.memory import COUNTED_BYTES, Hold
from server.settings import Settings

JSON = "application/json"
BINARY = "application/octet-stream"
# Envoy sends it with every request that has a timeout there. Milliseconds.
TIMEOUT_HEADER = "x-envoy-expected-rq-timeout-ms"

HTTP_CODES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
# How long a client may take to read a reply: as long as the last calls of an old gRPC connection have.
SEND_S = 600.0
# A reply goes out in pieces, so that a client that does not read holds one of them in the connection's buffer.
_PIECE_BYTES = 256 << 10
# A body: as it came, and in the message that is made of it.
BODY_COPIES = 2
# What each of these in a JSON text becomes, at most: a value of a list, a list, an object, an entry of an object.
_JSON_BYTES = {b",": 40, b"[": 80, b"{": 80, b":": 130}

log = logging.getLogger(__name__)


class Refusal(Exception):
    """A call that ended with a status other than OK. `trailers`: as gRPC would send them."""

    def __init__(self, code: str, text: str, trailers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(text)
        self.code = code
        self.trailers = dict(trailers)


class HttpContext:
    """What servicers ask of a call's context (`grpc.aio.ServicerContext`), for a request over HTTP. Loop thread only.

    `trailers`: headers for the reply. `hold`: the memory that the call holds, its body's included.
    """

    def __init__(self, request: Request, hold: Hold) -> None:
        """Raises:
        InvalidRequest: its time limit is not a number.
        """
        self._metadata = tuple((key.decode("latin-1"), value.decode("latin-1")) for key, value in request.headers.raw)
        client = request.client
        self._peer = f"http:{client.host}:{client.port}" if client is not None else "http"
        self.trailers: dict[str, str] = {}
        self.hold = hold
        self._callbacks: list[Callable[[Any], None]] = []
        self._has_ended = False
        given = request.headers.get(TIMEOUT_HEADER)
        if given is not None and not (given.isascii() and given.isdecimal() and len(given) < 12):
            raise InvalidRequest(f"header {TIMEOUT_HEADER}: {given!r} is not a number of milliseconds")
        self._until = time.monotonic() + int(given) / 1000 if given else None

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers, names in lower case."""
        return self._metadata

    def peer(self) -> str:
        """The connection: clients that share a server take turns by it."""
        return self._peer

    def time_remaining(self) -> float | None:
        """Seconds until the caller stops waiting; None if it did not say."""
        return None if self._until is None else self._until - time.monotonic()

    def set_trailing_metadata(self, trailers: Iterable[tuple[str, str]]) -> None:
        """Headers of the reply."""
        self.trailers |= dict(trailers)

    def add_done_callback(self, function: Callable[[Any], None]) -> None:
        """`function` is called when the reply was sent or can never be: at once if that is known already, of work that
        others wait for while the caller who began it has left."""
        if self._has_ended:
            function(self)
        else:
            self._callbacks.append(function)

    async def abort(self, code: grpc.StatusCode, text: str, trailers: Iterable[tuple[str, str]] = ()) -> NoReturn:
        """Raises:
        Refusal: always.
        """
        raise Refusal(code.name, text, trailers)

    def end(self) -> None:
        """Calls what waits for the end of the call."""
        self._has_ended = True
        callbacks, self._callbacks = self._callbacks, []
        for function in callbacks:
            function(self)


class Reply(Response):
    """A reply of bytes, in pieces; the call ends when it was sent."""

    def __init__(
        self, parts: Sequence[Raw], media_type: str, context: HttpContext, headers: Mapping[str, str] | None = None
    ) -> None:
        nbytes = sum(map(len, parts))
        own = {"Cache-Control": "no-store", **context.trailers, **(headers or {}), "Content-Length": str(nbytes)}
        super().__init__(None, 200, own, media_type)
        self._parts = parts
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it; waits while the client does not read."""
        try:
            async with asyncio.timeout(SEND_S):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                for part in self._parts:
                    for at in range(0, len(part), _PIECE_BYTES):
                        body = part[at : at + _PIECE_BYTES]
                        await send({"type": "http.response.body", "body": body, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            log.info("reply not read", extra={"fields": {"limit_s": SEND_S}})  # uvicorn ends the connection
        finally:
            self._context.end()


async def call(method: Callable[[Any, Any], Awaitable[Any]], message: Any, request: Request, context: Any) -> Any:
    """What the servicer's method answers. It is cancelled if the client leaves or its time is over.

    Args:
        message: the request's message, or the error with which the call is to end.

    Raises:
        Refusal: it ended with another status than OK.
    """
    task = asyncio.ensure_future(method(message, context))
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, timeout=context.time_remaining(), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        left = gone.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            return await task
        raise Refusal("CANCELLED", "the client has left") if left else Refusal("DEADLINE_EXCEEDED", "the time is over")
    finally:
        gone.cancel()
        task.cancel()


async def _gone(request: Request) -> None:
    """Returns when the client has left. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def refusal(error: Refusal) -> Response:
    """The reply that says it: `{"error": text}`, as in KServe v2."""
    status = HTTP_CODES.get(error.code, 500)
    headers = {"Cache-Control": "no-store", **error.trailers}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if pushback_ms := headers.pop(PUSHBACK_KEY, None):
        headers["Retry-After"] = str(math.ceil(int(pushback_ms) / 1000))
    return Response(orjson.dumps({"error": str(error)}), status, headers, JSON)


async def read_body(request: Request, settings: Settings, hold: Hold) -> bytes:
    """The request's body, decompressed. What it takes is counted in `hold`.

    Raises:
        ImageTooLarge: more bytes than max_message_bytes, as sent or decompressed.
        InvalidRequest: it did not arrive within message_timeout_s, or is not what its Content-Encoding says.
        Overloaded: there is no memory for it.
        Unsupported: an unknown Content-Encoding.
    """
    limit = settings.max_message_bytes
    length = request.headers.get("content-length", "")
    if length.isdecimal():  # else it comes in chunks
        _check_length(int(length), limit)
    body = bytearray()
    try:
        async with asyncio.timeout(settings.message_timeout_s):
            async for piece in request.stream():
                _check_length(len(body) + len(piece), limit)
                body += piece
                _count(hold, len(body))  # what came, not what was announced
    except TimeoutError:
        late = f"the body has not arrived after {settings.message_timeout_s:g} s, the limit (message_timeout_s)"
        raise InvalidRequest(f"{late}: {len(body)} bytes came") from None
    except ClientDisconnect:
        raise Refusal("CANCELLED", "the client has left") from None
    encoding = request.headers.get("content-encoding", "").strip().lower()
    return bytes(body) if encoding in ("", "identity") else await _inflated(body, encoding, limit, hold)


def _check_length(nbytes: int, limit: int) -> None:
    if nbytes > limit:
        raise ImageTooLarge(f"the body is {nbytes} bytes or more, at most {limit} (max_message_bytes)")


def _count(hold: Hold, nbytes: int) -> None:
    """Counts a body of so many bytes by now."""
    if (more := BODY_COPIES * nbytes - hold.nbytes) > COUNTED_BYTES:
        hold.take(more)


async def _inflated(body: bytearray, encoding: str, limit: int, hold: Hold) -> bytes:
    if encoding not in ("gzip", "deflate"):
        raise Unsupported(f"Content-Encoding {encoding!r} is not offered; use gzip, deflate or none")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16 if encoding == "gzip" else zlib.MAX_WBITS)
    found = bytearray()
    try:
        for at in range(0, len(body), _PIECE_BYTES):
            left: bytes | bytearray = body[at : at + _PIECE_BYTES]
            while left and not inflater.eof:
                found += inflater.decompress(left, COUNTED_BYTES)
                left = inflater.unconsumed_tail
                _check_length(len(found), limit)
                _count(hold, len(body) + len(found))
                turn = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_soon(turn.set_result, None)
                await turn  # others had theirs
            if inflater.eof:
                break
    except zlib.error as error:
        raise InvalidRequest(f"the body is not {encoding}: {error}") from None
    if not inflater.eof:
        raise InvalidRequest(f"the body's {encoding} ends too early")
    if beyond := len(body) - min(len(body), at + _PIECE_BYTES) + len(inflater.unused_data):
        raise InvalidRequest(f"{beyond} bytes come after the end of the body's {encoding}; send one {encoding} stream")
    return bytes(found)


def read_json(text: bytes, limit: int) -> dict[str, Any]:
    """The JSON object in `text`; empty if that is empty.

    Raises:
        InvalidRequest: it is not JSON, or not an object.
        ImageTooLarge: its values take more memory than `limit` bytes (max_message_bytes).
    """
    if not text:
        return {}
    needed = sum(text.count(mark) * nbytes for mark, nbytes in _JSON_BYTES.items())
    if needed > limit:
        raise ImageTooLarge(
            f"JSON of {len(text)} bytes that become {needed} when they are read, at most {limit} (max_message_bytes); "
            "send tensors as binary data"
        )
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidRequest("the body is not a JSON object")
    return found


def to_json(message: Message) -> dict[str, Any]:
    """A message as JSON with every field, in the names of its definition; numbers of 64 bits are numbers."""
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields if _is_shown(message, field)}


def _is_shown(message: Message, field: Any) -> bool:
    """A sub-message, or a field that may be unset, only if it is there."""
    return not field.has_presence or message.HasField(field.name)


def _value(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        kind = field.message_type.fields_by_name["value"]
        return {str(key): _plain(value[key], kind) for key in value}
    if field.is_repeated:
        return [_plain(each, field) for each in value]
    return _plain(value, field)


def _plain(value: Any, field: Any) -> Any:
    if field.message_type is not None:
        return to_json(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    return value.hex() if isinstance(value, bytes) else value
