"""What a call can raise, by what the caller should do, with the gRPC status codes.

ServerError              any status not below
├─ InvalidRequest        change the request           INVALID_ARGUMENT, OUT_OF_RANGE, FAILED_PRECONDITION, UNIMPLEMENTED
├─ AccessDenied          another API key              UNAUTHENTICATED, PERMISSION_DENIED
├─ NotFound              another model or version     NOT_FOUND
├─ Overloaded            try again later              RESOURCE_EXHAUSTED
├─ Unavailable           try again, or elsewhere      UNAVAILABLE, CANCELLED
├─ DeadlinePassed        allow more time              DEADLINE_EXCEEDED
└─ ServerFault           read the server's log        INTERNAL, UNKNOWN, DATA_LOSS
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc

from ganserve.client.address import Address, diagnose

Code = grpc.StatusCode


class ServerError(Exception):
    """A call failed. `code` is the gRPC status code, `text` the server's message."""

    def __init__(self, text: str, code: grpc.StatusCode = Code.UNKNOWN) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class InvalidRequest(ServerError, ValueError):
    """The model or the server does not support something in the request; also raised before anything is sent."""

    def __init__(self, text: str, code: grpc.StatusCode = Code.INVALID_ARGUMENT) -> None:
        super().__init__(text, code)


class AccessDenied(ServerError):
    """The server needs an API key, or one with another role."""


class NotFound(ServerError):
    """No such model or version."""


class Overloaded(ServerError):
    """The server's queue is full."""


class Unavailable(ServerError):
    """Cannot connect, or the server or the model is starting or stopping."""


class DeadlinePassed(ServerError):
    """No reply within `deadline_s`."""


class ServerFault(ServerError):
    """The server failed; its log has the details."""


CLASS_OF: dict[grpc.StatusCode, type[ServerError]] = {
    Code.INVALID_ARGUMENT: InvalidRequest,
    Code.OUT_OF_RANGE: InvalidRequest,
    Code.FAILED_PRECONDITION: InvalidRequest,
    Code.UNIMPLEMENTED: InvalidRequest,
    Code.UNAUTHENTICATED: AccessDenied,
    Code.PERMISSION_DENIED: AccessDenied,
    Code.NOT_FOUND: NotFound,
    Code.RESOURCE_EXHAUSTED: Overloaded,
    Code.UNAVAILABLE: Unavailable,
    Code.CANCELLED: Unavailable,
    Code.DEADLINE_EXCEEDED: DeadlinePassed,
    Code.INTERNAL: ServerFault,
    Code.UNKNOWN: ServerFault,
    Code.DATA_LOSS: ServerFault,
}
MAY_BE_THE_WAY = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)  # the call may not have reached a server


def error_of(
    error: grpc.RpcError, address: Address | None = None, timeout_s: float | None = None, cause: str | None = None
) -> ServerError:
    """The exception of this module for one of gRPC's, sync or aio.

    Args:
        error: as raised by gRPC.
        address: of the server, for the text.
        timeout_s: of the call, for the text.
        cause: why no call can work, as found by `diagnose`.
    """
    code = error.code() if hasattr(error, "code") else Code.UNKNOWN
    details = error.details() if hasattr(error, "details") else ""
    text = details or f"the server replied {code.name}"
    if code is Code.RESOURCE_EXHAUSTED and "message larger than max" in text:
        # The transport refused the message, not the queue: the same request would be refused again.
        return InvalidRequest(f"{text}; the server's setting is GANSERVE_MAX_MESSAGE_BYTES", code)
    if cause is not None:
        return Unavailable(cause, code)
    if address is not None and code is Code.DEADLINE_EXCEEDED:
        within = "in time" if timeout_s is None else f"within {timeout_s:g} s"
        text = f"no reply from {address.shown} {within} ({text}); allow more time: deadline_s, --deadline"
    elif address is not None and code in MAY_BE_THE_WAY:
        text = f"{address.shown}: {text}"
    return CLASS_OF.get(code, ServerError)(text, code)


@contextmanager
def translated(address: Address, timeout_s: float | None) -> Iterator[None]:
    """Turns gRPC's errors inside the block into those of this module, without chaining them."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_of(error, address, timeout_s, _cause(error, address)) from None


@asynccontextmanager
async def translated_aio(address: Address, timeout_s: float | None) -> AsyncIterator[None]:
    """`translated`, without stopping the event loop while it looks for the cause."""
    try:
        yield
    except grpc.RpcError as error:
        cause = await asyncio.to_thread(_cause, error, address)
        raise error_of(error, address, timeout_s, cause) from None


def _cause(error: grpc.RpcError, address: Address) -> str | None:
    code = error.code() if hasattr(error, "code") else None
    return diagnose(address) if code in MAY_BE_THE_WAY else None
