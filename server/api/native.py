"""A server over pygrpc-native: HTTP/2 and gRPC run in Rust, outside the GIL, and hand over calls as bytes.

`pygrpc_native.aio` serves the same servicers, and makes for each call what some servicer might need of grpc.aio. This
makes what ours need: a sixth of the event loop's time for a call that is rejected, when calls come fastest.
"""

import asyncio
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import grpc
from pygrpc_native import EVENT_CANCEL, NativeGrpcFront

from server.api.alike import RPC as ALIKE_RPC
from server.api.alike import TOGETHER_S, Alike
from server.api.begin import begin
from server.api.native_call import Method, NativeCall
from server.api.native_close import FLUSH_S, close
from server.api.native_unread import NativeUnread
from server.api.relayed import RelayedContext, RelayedMessages
from server.api.unknown_methods import make_tolerant_server
from server.images.memory import MemoryBudget
from server.observability.trace import Metadata
from server.shared_loop import call_in

# Events that the front end gives at once.
MAX_EVENTS = 64
# The front end itself ends a call with more metadata by HTTP 431 or a reset, which clients report as UNKNOWN or
# INTERNAL, and the connection, with all calls on it, at still more. So it gets more than the limit, held here.
METADATA_ROOM = 16
# For so long after its end a client's stream may be on its way through the front end, which drops it when it closes.
RELAY_S = 0.25
# HTTP/2 counts so many bytes for an entry of metadata, beside its name and value.
ENTRY_BYTES = 32

log = logging.getLogger(__name__)


class NativeServer(grpc.aio.Server):
    """Stands in for a `grpc.aio.Server` with coroutine methods. Loop thread only.

    Methods to which clients stream are served by grpc.aio, on a socket that the front end knows.
    """

    def __init__(
        self, options: list[tuple[str, Any]], max_message_bytes: int, max_metadata_bytes: int, **front: int
    ) -> None:
        """`options`: of grpc.aio's server. `front`: what NativeGrpcFront calls the same limits."""
        self._max_message_bytes = max_message_bytes
        self._max_metadata_bytes = max_metadata_bytes
        self._settings = {**front, "max_metadata_size": METADATA_ROOM * max_metadata_bytes}
        self._front: NativeGrpcFront | None = None
        self._methods: dict[str, Method] = {}
        self._table: list[Method] = []
        self._others = make_tolerant_server(options)
        self._folder: Path | None = None
        self._calls: dict[int, NativeCall] = {}
        self._stopping = False
        self._stream_ended_s = self._call_ended_s = 0.0
        self.alike: Alike | None = None
        self._alike_method = -1  # whose calls it may reject
        self._unread: NativeUnread | None = None
        self._ended = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()  # the server is stopping

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[object]) -> None:
        """Generated code gives the same handlers to the next method."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]
    ) -> None:
        """Adds the methods of a service."""
        streamed = {}
        for name, handler in method_handlers.items():
            if handler.request_streaming:
                streamed[name] = self._noted(handler)
            else:
                function: Any = handler.unary_stream if handler.response_streaming else handler.unary_unary
                read: Any = handler.request_deserializer
                write: Any = handler.response_serializer
                method = Method(function, read, write, bool(handler.response_streaming))
                self._methods[f"/{service_name}/{name}"] = method
        self._others.add_registered_method_handlers(service_name, streamed)

    def _noted(self, handler: "grpc.RpcMethodHandler[Any, Any]") -> "grpc.RpcMethodHandler[Any, Any]":
        method: Any = handler.stream_stream
        parse: Any = handler.request_deserializer

        async def noted(requests: Any, context: Any) -> None:
            messages = RelayedMessages(requests, parse)
            try:
                await method(messages, RelayedContext(context, messages))
            finally:
                messages.end()
                self._stream_ended_s = time.monotonic()

        return grpc.stream_stream_rpc_method_handler(noted, None, handler.response_serializer)

    def add_insecure_port(self, address: str) -> int:
        """Listens, and returns the port.

        Raises:
            RuntimeError: the port is taken.
        """
        try:
            self._front = NativeGrpcFront(
                address, [], call_details=True, delay_stream_headers=True, metrics=True, **self._settings
            )
        except OSError as error:
            raise RuntimeError(f"cannot listen on {address}") from error
        return int(self._front.bound_port)

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> NoReturn:
        """Not offered; see `transport.choose_frontend`."""
        raise RuntimeError("no TLS")

    def limit_unread(self, budget: MemoryBudget, idle_s: float) -> None:
        """Has the replies counted that are not read, and their connections ended; see `NativeUnread`."""
        assert self._front is not None, "a port comes first"
        self._unread = NativeUnread(self._front.bound_port, idle_s, budget, self._sent)

    def _sent(self) -> tuple[int, int]:
        """Bytes of the replies that are sent or dropped, and how many replies are neither, at most: calls of which
        nothing is known here yet are among them. Streams are not."""
        assert self._front is not None
        methods, nbytes, left = self._front.metrics()["methods"], 0, 0
        for path, method in self._methods.items():
            if not method.is_stream:
                ended = methods[path]["status"].values()
                nbytes += sum(each["sent"]["sum"] for each in ended)
                left += methods[path]["started"] - sum(each["count"] for each in ended)
        return nbytes, left - sum(not (call.is_stream or call.has_left) for call in self._calls.values())

    async def start(self) -> None:
        """Takes calls from now on."""
        front = self._front
        assert front is not None, "a port comes first"
        self._folder = Path(tempfile.mkdtemp(prefix="ganserve-"))
        socket = str(self._folder / "others.sock")
        self._others.add_insecure_port(f"unix:{socket}")
        await self._others.start()
        front.set_fallback(socket)
        self._table = list(self._methods.values())
        self._alike_method = next((n for n, path in enumerate(self._methods) if path.endswith(f"/{ALIKE_RPC}")), -1)
        front.add_methods([(path, method.is_stream) for path, method in self._methods.items()])
        front.start()
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._hand_over, args=(front, loop), name="calls", daemon=True)
        self._thread.start()

    async def stop(self, grace: float | None) -> None:
        """Rejects new calls, gives those in flight `grace` seconds, then ends them and closes every connection."""
        if self._stopping:
            await self._ended.wait()
            return
        self._stopping = True
        self._hurry.set()
        if self._unread is not None:
            self._unread.close()
        over_at = time.monotonic() + (grace or 0.0)
        others = asyncio.create_task(self._others.stop(grace))
        tasks = [call.task for call in self._calls.values() if call.task is not None]
        if tasks and grace:
            await asyncio.wait(tasks, timeout=grace)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, others, return_exceptions=True)
        if self._front is not None:
            sent_at = max(self._stream_ended_s + RELAY_S, self._call_ended_s + FLUSH_S)
            await asyncio.to_thread(close, self._front, over_at, sent_at)
        if self._thread is not None:  # what follows is on the loop's own thread: only there signals can be left
            await asyncio.to_thread(self._thread.join)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._ended.set()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  # as grpc.aio has it
        """Whether `timeout` seconds were over before the server had stopped."""
        try:
            async with asyncio.timeout(timeout):
                await self._ended.wait()
        except TimeoutError:
            return True
        return False

    def _hand_over(self, front: NativeGrpcFront, loop: asyncio.AbstractEventLoop) -> None:
        """A thread's life: waits for events, and runs in the loop what follows from them."""
        while (events := front.recv_batch_details(MAX_EVENTS)) is not None:
            try:
                call_in(loop, self._take, front, events)
            except RuntimeError:  # the loop has ended
                front.close()
                return
            has_all = len(events) < MAX_EVENTS
            del events  # until the next call comes nothing is kept of the last one
            if has_all and self.alike is not None and time.monotonic() < self.alike.sent_at + 2 * TOGETHER_S:
                self._hurry.wait(TOGETHER_S)

    def _take(self, front: NativeGrpcFront, events: Sequence[tuple[Any, ...]]) -> None:
        for kind, number, method, message, _, details in events:
            if kind == EVENT_CANCEL:
                if (left := self._calls.get(number)) is not None:
                    left.leave()
            elif self._stopping:
                front.fail(number, grpc.StatusCode.UNAVAILABLE.value[0], "the server is stopping")
            elif method == self._alike_method and self.alike and self.alike.rejects(front, number, message, *details):
                pass
            elif (nbytes := metadata_bytes(details[0])) > self._max_metadata_bytes:
                text = f"received metadata size exceeds hard limit ({nbytes} vs. {self._max_metadata_bytes})"
                front.fail(number, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], text)
            else:
                found, is_alone = self._table[method], len(events) == 1
                call = self._calls[number] = NativeCall(
                    front, number, found, self._max_message_bytes, is_alone, self._unread, *details
                )
                call.task = (asyncio.create_task if found.is_stream else begin)(self._run(call, message))
        if self.alike is not None:
            self.alike.send()

    async def _run(self, call: "NativeCall", message: bytes) -> None:
        try:
            await call.run(message)
        except grpc.aio.AbortError:
            if call.rejection is not None and self.alike is not None:
                has_deadline = call.time_remaining() is not None
                self.alike.note(message, call.peer(), has_deadline, *call.rejection)
        except asyncio.CancelledError:
            if not (call.has_left or self._stopping):  # the method cancelled itself
                call.fail(grpc.StatusCode.CANCELLED, "cancelled")
        except Exception as error:  # `calls` makes a status of what methods raise
            log.exception("call failed")
            call.fail(grpc.StatusCode.UNKNOWN, f"unexpected {type(error).__name__}")
        finally:
            del self._calls[call.number]
            self._call_ended_s = time.monotonic()
            call.end()


def metadata_bytes(metadata: Metadata) -> int:
    """Its size as HTTP/2 counts it."""
    return sum([len(key) + len(value) + ENTRY_BYTES for key, value in metadata])
