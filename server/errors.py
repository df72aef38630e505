"""Everything that can go wrong, sorted by whose fault it is.

GanserveError
├─ RequestError        the caller must change something
│  ├─ InvalidRequest       INVALID_ARGUMENT
│  ├─ ImageTooLarge        INVALID_ARGUMENT
│  ├─ ModelNotFound        NOT_FOUND
│  └─ Unsupported          UNIMPLEMENTED
├─ CapacityError       the caller may try again
│  ├─ Overloaded           RESOURCE_EXHAUSTED
│  ├─ NotServing           UNAVAILABLE
│  └─ DeadlinePassed       DEADLINE_EXCEEDED
├─ EngineError         we must fix something
│  └─ InferenceFailed      INTERNAL  (opaque text; an id that is in the log)
└─ StartError          the operator must change something: one line, exit code 2

Request errors state the limit and the value received, and name the setting that moves it.
"""


class GanserveError(Exception):
    """Base of all. The message is one sentence, fit to be shown."""


class RequestError(GanserveError):
    """The caller must change something."""


class InvalidRequest(RequestError):
    """A field, shape, dtype, label or parameter that the model does not take."""


class ImageTooLarge(RequestError):
    """More pixels, bytes or images than a limit allows."""


class ModelNotFound(RequestError):
    """No model or version of that name in the repository."""


class Unsupported(RequestError):
    """An RPC or option that this server does not offer."""


class CapacityError(GanserveError):
    """The caller may try again."""


class Overloaded(CapacityError):
    """The queue is full, or the answer could not be ready before the caller's deadline."""


class NotServing(CapacityError):
    """The model or the server is loading, unloading, unavailable or stopping."""


class DeadlinePassed(CapacityError):
    """The caller's deadline passed while the work was queued."""


class EngineError(GanserveError):
    """We must fix something."""


class InferenceFailed(EngineError):
    """The engine raised; the caller gets an id, the log has the rest."""


class StartError(GanserveError):
    """The server cannot start as configured; the text says what to change."""
