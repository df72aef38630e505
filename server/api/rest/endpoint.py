"""An address of the HTTP API: its body becomes a message, a servicer answers, the answer becomes a reply."""

import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from server.api.rest.call import HttpContext, Refusal, call, read_body, refusal
from server.errors import GanserveError
from server.images.memory import Hold, MemoryBudget
from server.images.workers import Workers
from server.observability.prometheus_text import Counter
from server.settings import Settings

# What is longer is read and written in another thread than the event loop's.
LARGE_BYTES = 64 << 10

log = logging.getLogger(__name__)

Read = Callable[[bytes, HttpContext], Awaitable[Any]]
"""The message for a body; raises a RequestError."""
Write = Callable[[Any, HttpContext], Awaitable[Response]]
"""The reply for a servicer's answer; raises a RequestError."""


class Endpoint:
    """What all addresses share. `workers`: threads for what takes long. `counters`: of the bytes of bodies, as they are
    read, and of replies."""

    def __init__(
        self, settings: Settings, budget: MemoryBudget, workers: Workers, counters: tuple[Counter, Counter]
    ) -> None:
        self._received, self._sent = counters
        self._settings = settings
        self._budget = budget
        self.workers = workers

    @property
    def max_bytes(self) -> int:
        """Of a body, as sent and as read (max_message_bytes)."""
        return self._settings.max_message_bytes

    def reading(self, read: Callable[[bytes], Any]) -> Read:
        """`read` for `answer`: of a long body in another thread than the event loop's."""

        async def read_message(body: bytes, context: HttpContext) -> Any:
            return await self.workers.run_if(len(body) > LARGE_BYTES, read, body)

        return read_message

    async def answer(
        self, request: Request, method: Callable[[Any, Any], Awaitable[Any]], read: Read, write: Write
    ) -> Response:
        """The reply to a request.

        A body that cannot be read goes to `method` as the error it is, so that it is counted and logged as any call.
        """
        if self._settings.api_keys is None and "origin" in request.headers:
            # A page in a browser on this machine reaches a loopback address, too.
            return refusal(
                Refusal("PERMISSION_DENIED", "web pages may call only a server with API keys (header Origin)")
            )
        hold = Hold(self._budget)
        try:
            context = HttpContext(request, hold)
        except GanserveError as error:
            return refusal(Refusal(error.code, str(error)))
        context.add_done_callback(lambda _: hold.release())
        is_sent = False
        try:
            try:
                body = await read_body(request, self._settings, hold)
                self._received.value += len(body)
                message = await read(body, context)
            except GanserveError as error:
                message = error
            reply = await write(await call(method, message, request, context), context)
            self._sent.value += int(reply.headers.get("content-length", 0))
            is_sent = True  # the reply ends the call
            return reply
        except Refusal as error:
            return refusal(error)
        except GanserveError as error:
            return refusal(Refusal(error.code, str(error)))
        except Exception as error:
            error_id = uuid.uuid4().hex[:12]
            log.error(
                "request failed", exc_info=error, extra={"fields": {"path": request.url.path, "error_id": error_id}}
            )
            return refusal(Refusal("INTERNAL", f"internal error; the server's log has it under error_id {error_id}"))
        finally:
            if not is_sent:
                context.end()
