"""An address of the HTTP API: its body becomes a message, a servicer answers, the answer becomes a reply."""

import logging
import uuid
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from server.api.rest.call import HttpContext, Refusal, call, read_body, refusal
from server.errors import GanserveError
from server.images.memory import Hold, MemoryBudget
from server.images.workers import Workers
from server.observability.context import RequestContext, current
from server.observability.prometheus_text import Counter
from server.settings import Settings

# What is longer is read and written in another thread than the event loop's.
LARGE_BYTES = 64 << 10

log = logging.getLogger(__name__)


def is_own_page(origin: str, host: str) -> bool:
    """Whether a request that a browser sends for a page of `origin` to `host` comes from this server's page.

    Any page in a browser on this machine reaches a loopback address, too, and by a name that it lets point there, which
    makes it the same origin for the browser. Digits and `localhost` cannot be made to point elsewhere.
    """
    scheme, _, where = origin.partition("://")
    if scheme not in ("http", "https") or where != host:
        return False
    try:
        name = urlsplit(origin).hostname or ""
        return name == "localhost" or bool(ip_address(name))
    except ValueError:
        return False


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
        if (
            self._settings.api_keys is None
            and (origin := request.headers.get("origin")) is not None
            and not (self._settings.page and is_own_page(origin, request.headers.get("host", "")))
        ):
            return refusal(
                Refusal(
                    "PERMISSION_DENIED",
                    f"web pages of {origin[:100]!r} may call only a server with API keys; without them its own may, "
                    "at localhost or an address of digits",
                )
            )
        hold = Hold(self._budget)
        try:
            context = HttpContext(request, hold)
        except GanserveError as error:
            return refusal(Refusal(error.code, str(error)))
        # So that `workers` know whose body they read, and whose reply they write: clients take turns.
        current.set(RequestContext("", "", None, context.invocation_metadata(), context.peer()))
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
