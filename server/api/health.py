"""The standard health service, grpc.health.v1: is the server, a model or a service serving?

Names: "" is the server as a whole; a model's name; `ganserve.v1.ImageService` and `inference.GRPCInferenceService`.
The owner of the state calls `set`; nothing here decides. A name stays: the repository's index keeps every model that
was tried, too.
"""

import asyncio
from collections.abc import AsyncIterator

from grpc.aio import ServicerContext
from grpc_health.v1.health_pb2 import HealthCheckRequest as Request
from grpc_health.v1.health_pb2 import HealthCheckResponse as Response
from grpc_health.v1.health_pb2_grpc import HealthServicer

from server.errors import ModelNotFound


class Health(HealthServicer):  # type: ignore[misc]  # the generated base has no types
    """Answers Check and Watch. Loop thread only."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {"": False}
        self._watches: dict[str, set[asyncio.Event]] = {}
        self._closed = False

    def set(self, name: str, serving: bool) -> None:
        """Sets the status of `name`; without effect after `close`."""
        if not self._closed:
            self._serving[name] = serving
            self._wake(name)

    def close(self) -> None:
        """Sets every name to NOT_SERVING for good; each watch is told so and then ended."""
        self._closed = True
        self._serving = dict.fromkeys(self._serving, False)
        for name in self._watches:
            self._wake(name)

    async def Check(self, request: Request, context: ServicerContext[Request, Response]) -> Response:
        """SERVING or NOT_SERVING.

        Raises:
            ModelNotFound: no model or service of that name.
        """
        if request.service not in self._serving:
            raise ModelNotFound(f"health of {request.service!r} is unknown: no model or service of that name")
        return Response(status=self._status(request.service))

    async def Watch(self, request: Request, context: ServicerContext[Request, Response]) -> AsyncIterator[Response]:
        """The status now and at each change, SERVICE_UNKNOWN while there is no such name, until `close`.

        A client that reads slowly may miss a status that was replaced since, never the latest.
        """
        name = request.service
        changed = asyncio.Event()
        self._watches.setdefault(name, set()).add(changed)
        try:
            sent = None
            while True:
                changed.clear()
                last, status = self._closed, self._status(name)
                if status != sent:
                    yield Response(status=status)
                    sent = status
                if last:
                    return
                await changed.wait()
        finally:
            self._watches[name].discard(changed)
            if not self._watches[name]:
                del self._watches[name]

    def _status(self, name: str) -> int:
        serving = self._serving.get(name)
        if serving is None:
            return int(Response.SERVICE_UNKNOWN)
        return int(Response.SERVING if serving else Response.NOT_SERVING)

    def _wake(self, name: str) -> None:
        for changed in self._watches.get(name, ()):
            changed.set()
