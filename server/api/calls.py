"""Around every RPC: its context, errors -> status, one metric, one log line, one span. The servicers only raise.

Servicers are wrapped because an interceptor costs each call a second pass through the front end.
"""

import asyncio
import functools
import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, NoReturn, Protocol
from urllib.parse import quote

import grpc

from server.batching.standing import TooLate
from server.errors import GanserveError, NotServing, Overloaded, drop_frames
from server.images.memory import Hold, MemoryBudget
from server.observability.context import ID_KEY, RequestContext, current
from server.observability.metrics import Metrics
from server.observability.trace import Tracer

# Calls that stay open for as long as the caller likes, and health, which must be answered until the end.
LASTING = frozenset({"Check", "Watch", "ModelStreamInfer"})
# Streams of which only so many may be open.
LIMITED = frozenset({"GenerateStream", "ModelStreamInfer", "UpscaleStream"})
# And of reflection, by itself: any key may open them, and they may be silent.
MAX_REFLECTIONS = 64

# gRPC clients that retry wait so long first (gRFC A6).
PUSHBACK_KEY = "grpc-retry-pushback-ms"

# Of a status's text, percent-encoded. gRPC clients take 8 KiB of headers, and see RESOURCE_EXHAUSTED if there are more.
MAX_TEXT_BYTES = 4096
# A caller's deadline may reach the caller that much earlier than this process.
DEADLINE_SKEW_S = 0.1

# Of a method that is given the error in place of a request which was refused before it was read, to raise it.
TAKES_REFUSALS = "takes_refusals"

QUIET_CODES = frozenset({"OK", "CANCELLED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"})

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class Unread(Protocol):
    """What is told of replies that hold memory while they are sent (`server.api.unread`)."""

    def add(self, context: Context, nbytes: int) -> None:
        """The call's reply, of so many bytes, is in the front end's hands."""


class Calls:
    """Wraps the methods of servicers."""

    def __init__(
        self,
        metrics: Metrics,
        tracer: Tracer | None = None,
        *,
        sends_pushback: bool = False,
        max_streams: int = 256,
        stream_idle_s: float = 60.0,
    ) -> None:
        """`sends_pushback`: whether the front end can tell a rejected caller when to come back."""
        self.tracer = tracer
        self.sends_pushback = sends_pushback
        self._metrics = metrics
        self._max_streams = max_streams
        self._stream_idle_s = stream_idle_s
        self._open: Counter[str] = Counter()
        self.unread: Unread | None = None  # set on front ends that keep replies for as long as their clients like
        self._closed = False
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def close(self) -> None:
        """Rejects new calls from now on; returns when every accepted one has been answered.

        Calls that last as long as their caller likes (LASTING) are neither rejected nor waited for.
        """
        self._closed = True
        await self._idle.wait()

    def wrap(self, servicer: object, service: str, methods: list[str]) -> SimpleNamespace:
        """An object with the same methods, to be registered in the servicer's place; `service`: its full name."""
        wrapped = SimpleNamespace()
        for name in methods:
            method = getattr(servicer, name)
            unary = asyncio.iscoroutinefunction(method)
            wrap = self._unary if unary else self._streaming
            setattr(wrapped, name, wrap(service, name, method))
        return wrapped

    def _unary(
        self, service: str, rpc: str, method: Callable[[Any, Context], Awaitable[Any]]
    ) -> Callable[[Any, Context], Awaitable[Any]]:
        @functools.wraps(method)
        async def call(request: Any, context: Context) -> Any:
            rpc_call = Call(self, service, rpc, request, context)
            try:
                self.check_open(rpc)
                if isinstance(request, GanserveError) and not hasattr(method, TAKES_REFUSALS):
                    raise request  # refused before it was read
                answer = await method(request, context)
            except BaseException as error:
                del request
                await rpc_call.fail(error, context)
            rpc_call.finish("OK", "")
            rpc_call.sends(context, answer)
            return answer

        return call

    def _streaming(
        self, service: str, rpc: str, method: Callable[[Any, Context], AsyncIterator[Any]]
    ) -> Callable[[Any, Context], Awaitable[None]]:
        @functools.wraps(method)
        async def call(request: Any, context: Context) -> None:
            rpc_call = Call(self, service, rpc, request, context)
            answers = None
            try:
                self.check_open(rpc)
                if isinstance(request, GanserveError):  # refused before it was read
                    raise request
                with self._counted("streams", self._max_streams, " (max_streams)") if rpc in LIMITED else nullcontext():
                    answers = method(request, context)
                    await self._send(answers, context)
            except BaseException as error:
                del request
                if answers is not None:
                    await answers.aclose()  # type: ignore[attr-defined]
                await rpc_call.fail(error, context)
            rpc_call.finish("OK", "")
            rpc_call.sends(context)

        return call

    def limit(
        self, method: Callable[[Any, Context], AsyncGenerator[Any, None]]
    ) -> Callable[[Any, Context], Awaitable[None]]:
        """The method of reflection with the limits of streams alone: it is no work, and not measured."""

        @functools.wraps(method)
        async def call(request: Any, context: Context) -> None:
            try:
                with self._counted("reflection streams", MAX_REFLECTIONS):
                    async with aclosing(method(request, context)) as answers:
                        await self._send(answers, context)
            except GanserveError as error:
                await context.abort(grpc.StatusCode[error.code], str(error))

        return call

    async def _send(self, answers: AsyncIterator[Any], context: Context) -> None:
        """Sends what a method yields, each as soon as the client has room for it.

        Raises:
            Overloaded: the client makes no room.
        """
        first = True
        async for answer in answers:
            try:
                async with asyncio.timeout(self._stream_idle_s):
                    with _errors_of_absence():
                        if first:  # grpc.aio can end a stream only after them while its first message is under way
                            await context.send_initial_metadata(())
                            first = False
                        await context.write(answer)
            except TimeoutError:
                text = f"the client took no message for {self._stream_idle_s:g} s, the limit (stream_idle_s)"
                raise Overloaded(text) from None

    @contextmanager
    def _counted(self, what: str, most: int, setting: str = "") -> Iterator[None]:
        """Counts an open stream of its kind.

        Raises:
            Overloaded: there are too many.
        """
        if self._open[what] >= most:
            raise Overloaded(f"{self._open[what]} {what} are open, limit {most}{setting}")
        self._open[what] += 1
        try:
            yield
        finally:
            self._open[what] -= 1

    @property
    def is_closed(self) -> bool:
        """Whether the server is stopping."""
        return self._closed

    def check_open(self, rpc: str) -> None:
        """Rejects a call that comes while the server stops.

        Raises:
            NotServing: the server is stopping.
        """
        if self._closed and rpc not in LASTING:
            raise NotServing("the server is stopping; try another one")

    def started(self, rpc: str) -> None:
        """Counts a call in."""
        if rpc not in LASTING:
            self._running += 1
            self._idle.clear()
        self._metrics.rpc_started(rpc)

    def rejected(self, rpc: str, model: str) -> None:
        """Counts a call that was rejected before it began."""
        self._metrics.rpc_started(rpc)
        self._metrics.rpc_finished(rpc, model, "RESOURCE_EXHAUSTED", 0.0)

    def finished(self, rpc: str, model: str, code: str, seconds: float, trace_id: str) -> None:
        """Counts a call out. `trace_id`: if it is sampled."""
        if rpc not in LASTING:
            self._running -= 1
            if not self._running:
                self._idle.set()
        self._metrics.rpc_finished(rpc, model, code, seconds, trace_id)


class Call:
    """One RPC, from its first byte to its status."""

    __slots__ = ("_calls", "_request", "_started_at")

    def __init__(self, calls: Calls, service: str, rpc: str, message: object, context: Context) -> None:
        self._calls = calls
        self._started_at = time.monotonic()
        self._request = request = RequestContext(
            service, rpc, message, context.invocation_metadata() or (), context.peer()
        )
        request.came_alone = getattr(context, "came_alone", False)
        current.set(request)
        if calls.tracer is not None:
            request.trace = calls.tracer.request(service, rpc, request.model, request.metadata, self._started_at)
        if request.has_caller_id:
            context.set_trailing_metadata(((ID_KEY, request.id),))
        calls.started(rpc)

    def finish(self, code: str, text: str) -> None:
        """Writes the call's metric, its span and its log line. The line is at level info if the call failed. It is at
        debug if the call succeeded or was rejected as overload, which a line for each call would make worse."""
        request = self._request
        seconds = time.monotonic() - self._started_at
        trace_id = "" if request.trace is None else request.trace.trace_id
        self._calls.finished(request.rpc, request.model, code, seconds, trace_id)
        level = logging.DEBUG if code in QUIET_CODES else logging.INFO
        if log.isEnabledFor(level):
            fields = {"rpc": request.rpc, "model": request.model, "code": code, "seconds": round(seconds, 6)}
            if message_id := request.message_id:
                fields["message_id"] = message_id
            if text:
                fields["error"] = text
            log.log(level, "call", extra={"fields": fields})
        if request.trace is not None:
            request.trace.end(code, grpc.StatusCode[code].value[0], text, request.id, request.message_id)
        request.end()

    def sends(self, context: Context, answer: Any = None) -> None:
        """The reply `answer`, or the status after messages that nobody has read, is given to the front end."""
        if self._request.holds and (unread := self._calls.unread) is not None:
            unread.add(context, 0 if answer is None else answer.ByteSize())

    async def fail(self, error: BaseException, context: Context) -> NoReturn:
        """Ends the call with the error's status; always raises."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            # Front ends cancel a call when its caller leaves, and when its deadline passes. The caller's clock
            # starts first, so that its reset may arrive shortly before the deadline on this side.
            left_s = context.time_remaining()
            self.finish("CANCELLED" if left_s is None or left_s > DEADLINE_SKEW_S else "DEADLINE_EXCEEDED", "")
            raise error
        if isinstance(error, GanserveError):
            code, text = error.code, str(error)
        elif isinstance(error, Exception):
            error_id = uuid.uuid4().hex[:12]
            log.error("call failed", exc_info=error, extra={"fields": {"rpc": self._request.rpc, "error_id": error_id}})
            code, text = "INTERNAL", f"internal error; the server's log has it under error_id {error_id}"
        else:
            raise error
        drop_frames(error)  # grpc.aio keeps what `abort` raises, whose context this is
        text = bounded(text)
        self.finish(code, text)
        self.sends(context)
        if isinstance(error, TooLate) and (note := getattr(context, "note_rejection", None)) is not None:
            note(error, self._request.rpc, self._request.model)
        trailers = [(ID_KEY, self._request.id)]
        if self._calls.sends_pushback and isinstance(error, Overloaded) and error.retry_after_s:
            trailers.append((PUSHBACK_KEY, str(math.ceil(error.retry_after_s * 1000))))
        try:
            await context.abort(grpc.StatusCode[code], text, tuple(trailers))
        except grpc.aio.InternalError:
            raise asyncio.CancelledError from None  # see `_errors_of_absence`, which takes its time
        raise AssertionError("abort raises")


@contextmanager
def _errors_of_absence() -> Iterator[None]:
    """What grpc.aio raises if it can send nothing, because the caller has just left, becomes a cancellation."""
    try:
        yield
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None


def hold_of(context: Context, budget: MemoryBudget) -> Hold:
    """What the call holds of the memory; over HTTP it has counted the body already."""
    return getattr(context, "hold", None) or Hold(budget)


def hold_until_read(context: Context, hold: Hold) -> None:
    """Has what the call holds given back when the call has ended; see `at_end`."""
    if (request := current.get()) is not None:
        request.holds = True
    at_end(context, hold.release)


def at_end(context: Context, function: Callable[[], None]) -> None:
    """Has `function` called when the call has ended: on grpc.aio, when its reply has been sent or can never be."""
    context.add_done_callback(lambda _: function())  # type: ignore[arg-type]  # the stub has a class for its callable


def bounded(text: str) -> str:
    """The text as a status may carry it: whoever sends a name of a megabyte gets its beginning and end back."""
    if 3 * len(text) <= MAX_TEXT_BYTES and text.isascii():  # most: percent-encoding makes three of one at most
        return text
    if len(text) <= MAX_TEXT_BYTES and len(quote(text, errors="replace")) <= MAX_TEXT_BYTES:
        return text
    head, tail = (part.encode("ascii", "backslashreplace").decode() for part in (text[:1000], text[-500:]))
    return f"{head[:1000]} ... {tail[-500:]}"


def deadline(context: Context) -> float | None:
    """When the caller stops waiting, on the monotonic clock; None if it set no deadline: grpc.aio then says None, other
    front ends a huge number of seconds."""
    left_s = context.time_remaining()
    return None if left_s is None or left_s > 1e9 else time.monotonic() + left_s
