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

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

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


def error_of(error: grpc.RpcError) -> ServerError:
    """The exception of this module for one of gRPC's, sync or aio."""
    code = error.code() if hasattr(error, "code") else Code.UNKNOWN
    details = error.details() if hasattr(error, "details") else ""
    text = details or f"the server replied {code.name}"
    if code is Code.RESOURCE_EXHAUSTED and "message larger than max" in text:
        # The transport refused the message, not the queue: the same request would be refused again.
        return InvalidRequest(f"{text}; the server's setting is GANSERVE_MAX_MESSAGE_BYTES", code)
    return CLASS_OF.get(code, ServerError)(text, code)


@contextmanager
def translated() -> Iterator[None]:
    """Turns gRPC's errors inside the block into those of this module, without chaining them."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_of(error) from None
