"""Everything that can go wrong, by who has to act.

GanserveError
├─ RequestError        the caller must change something
│  ├─ InvalidRequest       INVALID_ARGUMENT
│  ├─ ImageTooLarge        INVALID_ARGUMENT
│  ├─ ModelNotFound        NOT_FOUND
│  ├─ RegionNotFound       NOT_FOUND
│  ├─ RegionExists         ALREADY_EXISTS
│  └─ Unsupported          UNIMPLEMENTED
├─ AccessError         the caller must show that it may
│  ├─ Unauthenticated      UNAUTHENTICATED
│  └─ PermissionDenied     PERMISSION_DENIED
├─ CapacityError       the caller may try again
│  ├─ Overloaded           RESOURCE_EXHAUSTED
│  ├─ NotServing           UNAVAILABLE
│  └─ DeadlinePassed       DEADLINE_EXCEEDED
├─ EngineError         we must fix something
│  └─ InferenceFailed      INTERNAL  (opaque text; an id that is in the log)
└─ StartError          the operator must change something: one line, exit code 2

Request errors state the limit and the value received, and name the setting that changes the limit.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class GanserveError(Exception):
    """Base of all. The message is one sentence that the caller or operator may see.

    `code`: the name of the gRPC status with which a call ends that raises it.
    """

    code: ClassVar[str] = "INTERNAL"


class RequestError(GanserveError):
    """The caller must change something."""

    code = "INVALID_ARGUMENT"


class InvalidRequest(RequestError):
    """A field, shape, dtype, label or parameter that the model does not accept."""


class ImageTooLarge(RequestError):
    """More pixels, bytes or images than a limit allows."""


class ModelNotFound(RequestError):
    """No model or version of that name in the repository."""

    code = "NOT_FOUND"


class RegionNotFound(RequestError):
    """No shared memory of that name is registered."""

    code = "NOT_FOUND"


class RegionExists(RequestError):
    """The name is taken by another region of shared memory."""

    code = "ALREADY_EXISTS"


class Unsupported(RequestError):
    """An RPC or option that this server does not offer."""

    code = "UNIMPLEMENTED"


class AccessError(GanserveError):
    """The caller must show that it may."""

    code = "PERMISSION_DENIED"


class Unauthenticated(AccessError):
    """No API key, or an unknown one."""

    code = "UNAUTHENTICATED"


class PermissionDenied(AccessError):
    """The key lacks the role, or the header of a restricted RPC is missing."""


class CapacityError(GanserveError):
    """The caller may try again."""

    code = "UNAVAILABLE"


class Overloaded(CapacityError):
    """The queue is full, or the answer could not be ready in time. `retry_after_s`: when to try again; 0: not known."""

    code = "RESOURCE_EXHAUSTED"

    def __init__(self, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class NotServing(CapacityError):
    """The model or the server is loading, unloading, unavailable or stopping."""

    code = "UNAVAILABLE"


class DeadlinePassed(CapacityError):
    """The caller's deadline passed while the work was queued."""

    code = "DEADLINE_EXCEEDED"


class EngineError(GanserveError):
    """We must fix something."""


class InferenceFailed(EngineError):
    """The engine raised; the caller gets an id, the log has the rest."""


class StartError(GanserveError):
    """The server cannot start as configured; the text says what to change."""


@contextmanager
def in_step(step: str) -> Iterator[None]:
    """What goes wrong inside names the step of a pipeline, such as `step 2 (model 'x')`; nothing is added for ""."""
    try:
        yield
    except GanserveError as error:
        if not step:
            raise
        named = copy.copy(error)  # other requests of the same batch may have got the same object
        named.args = (f"{step}: {error}",)
        try:
            raise named from error
        finally:
            del named  # it has this frame in its traceback: a circle


def drop_frames(error: BaseException) -> None:
    """Drops the tracebacks of an error that was dealt with, and of those that led to it: their frames have the local
    variables of what failed, such as a large message."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            left += each.__cause__, each.__context__
