"""A server of grpc.aio that survives calls whose path is no UTF-8.

grpc.aio decodes the path of a call in the loop that accepts all calls; where that fails the loop ends, and the server
with every call in flight (seen in 1.81 to 1.85). Only calls of methods that are not registered have a path to decode,
and all of them get the same answer, so the loop is not given any of them.
"""

import asyncio
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # compiled, without types

# What is used of grpc.aio's inside. Where that is not there, the server is as it was made.
_NEEDED = ("_MethodResolver", "_handle_rpc", "_schedule_rpc_coro")
_OVERRIDDEN = ("_make_request_call_future", "_request_call")


def make_tolerant_server(options: list[tuple[str, Any]]) -> grpc.aio.Server:
    """Like `grpc.aio.server`. Its methods must be registered (`add_registered_method_handlers`): others are unknown."""
    has_inside = all(hasattr(cygrpc, name) for name in _NEEDED)
    if not has_inside or not all(hasattr(cygrpc.AioServer, name) for name in _OVERRIDDEN):
        return grpc.aio.server(options=options)
    original = cygrpc.AioServer
    cygrpc.AioServer = _Tolerant
    try:
        return grpc.aio.server(options=options)
    finally:
        cygrpc.AioServer = original


class _Tolerant(cygrpc.AioServer):  # type: ignore[misc]
    def _make_request_call_future(self, method: bytes | None) -> Any:
        """The next call of that method; None: of an unknown one. There never is one of those."""
        if method is not None:
            return super()._make_request_call_future(method)
        return asyncio.get_running_loop().create_task(self._refuse_unknown())

    async def _refuse_unknown(self) -> None:
        """Answers UNIMPLEMENTED to each, until the server stops, which raises."""
        loop = asyncio.get_running_loop()
        unknown = cygrpc._MethodResolver([], {})
        answers: set[asyncio.Task[None]] = set()
        while True:
            call = await self._request_call()
            answer = cygrpc._handle_rpc("", unknown, (), call, loop, False)
            task = loop.create_task(cygrpc._schedule_rpc_coro(answer, call, loop, ""))
            answers.add(task)
            task.add_done_callback(answers.discard)
