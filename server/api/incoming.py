"""Messages on their way in: how long they take to arrive, and how much they are once they are read.

Services are added to `Incoming` in the front end's place. It checks a message's size before protobuf reads it; what is
refused is handed on as the error, which the wrapped method raises (`calls`). On grpc.aio, whose calls begin with their
headers, it also reads the message of a call itself, so that one which does not arrive can be ended. The native front
end hands out whole messages only.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from server.api.calls import Context
from server.api.wire import check_size
from server.errors import GanserveError, InvalidRequest, Overloaded
from server.observability.prometheus_text import Counter
from server.settings import Settings

# Messages that take longer are slow: they are looked at so often, and only so many may be on their way.
SLOW_S = 1.0

Read = Callable[[bytes], Any]
Handlers = Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]


class Incoming:
    """Stands in for a front end where services are added to it.

    Args:
        awaits_messages: whether its calls begin before their message has arrived.
        counters: of the bytes of messages in and out.
    """

    def __init__(
        self, server: grpc.aio.Server, settings: Settings, awaits_messages: bool, counters: tuple[Counter, Counter]
    ) -> None:
        self._server = server
        self._received, self._sent = counters
        self._limit_bytes = settings.max_message_bytes
        self._arrivals = Arrivals(settings.message_timeout_s, settings.max_slow_messages) if awaits_messages else None

    def add_generic_rpc_handlers(self, handlers: Iterable[object]) -> None:
        """Generated code gives the same handlers to the next method."""

    def add_registered_method_handlers(self, service: str, handlers: Handlers) -> None:
        """Adds the methods of a service."""
        described = descriptor_pool.Default().FindServiceByName(service).methods_by_name
        wrapped = {name: self._wrap(handler, described[name].input_type) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))
        self._server.add_registered_method_handlers(service, wrapped)

    def _wrap(self, handler: Any, kind: Descriptor) -> Any:
        read = self._reader(handler.request_deserializer, kind)
        write, arrivals = self._write, self._arrivals
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(handler.stream_stream, read, write)
        if arrivals is None:
            if handler.response_streaming:
                return grpc.unary_stream_rpc_method_handler(handler.unary_stream, read, write)
            return grpc.unary_unary_rpc_method_handler(handler.unary_unary, read, write)
        method = handler.unary_stream or handler.unary_unary

        async def call(_: object, context: Context) -> Any:
            return await method(await arrivals.read(context), context)

        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(call, read, write)
        return grpc.stream_unary_rpc_method_handler(call, read, write)

    def _write(self, message: Any) -> bytes:
        """Also for what stands in for a message (`infer_answer`), which generated code refuses."""
        data: bytes = message.SerializeToString()
        self._sent.value += len(data)
        return data

    def _reader(self, parse: Read, kind: Descriptor) -> Read:
        limit_bytes, received = self._limit_bytes, self._received

        def read(data: bytes) -> Any:
            received.value += len(data)
            try:
                check_size(data, kind, limit_bytes)
            except GanserveError as error:
                return error
            try:
                return parse(data)
            except DecodeError:
                return InvalidRequest(f"the call's {len(data)} bytes are not a {kind.full_name}")

        return read


class Arrivals:
    """The calls of grpc.aio whose message has not arrived. Loop thread only.

    A message holds memory from its first byte on, and no one knows how much is still to come. So a message has a limit
    of time, and of those that take longer than SLOW_S only `max_slow` may be on their way; beyond, the slowest ends.
    """

    def __init__(self, timeout_s: float, max_slow: int) -> None:
        self._timeout_s = timeout_s
        self._max_slow = max_slow
        self._waiting: dict[asyncio.Task[Any], float] = {}  # since when, the longest first
        self._ended: dict[asyncio.Task[Any], GanserveError] = {}
        self._looking = False

    async def read(self, context: Any) -> Any:
        """The call's message, or the error with which it is to end."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._waiting[task] = loop.time()
        if not self._looking:
            self._looking = True
            loop.call_later(SLOW_S, self._look)
        try:
            message = await context.read()
        except asyncio.CancelledError:
            error = self._ended.get(task)
            if error is None or task.uncancel():
                raise
            return error
        finally:
            del self._waiting[task]
            self._ended.pop(task, None)
        return InvalidRequest("the call has no message") if message is grpc.aio.EOF else message

    def _look(self) -> None:
        """Ends what takes too long; once in SLOW_S while a message is on its way."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        slow = [(task, now - since) for task, since in self._waiting.items() if now - since >= SLOW_S]
        for index, (task, seconds) in enumerate(slow):
            late = f"the message has not arrived after {seconds:.1f} s"
            if seconds > self._timeout_s:
                self._end(task, InvalidRequest(f"{late}, limit {self._timeout_s:g} s (message_timeout_s)"))
            elif len(slow) - index > self._max_slow:
                slower = f"{len(slow)} take more than {SLOW_S:g} s, limit {self._max_slow} (max_slow_messages)"
                self._end(task, Overloaded(f"{late}; {slower}"))
        self._looking = bool(self._waiting)
        if self._looking:
            loop.call_later(SLOW_S, self._look)

    def _end(self, task: asyncio.Task[Any], error: GanserveError) -> None:
        if task not in self._ended:
            self._ended[task] = error
            task.cancel()
