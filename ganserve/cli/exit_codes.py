"""The command's exit codes, by what a script can do about them."""

from ganserve.client.errors import (
    AccessDenied,
    DeadlinePassed,
    InvalidRequest,
    NotFound,
    Overloaded,
    ServerError,
    ServerFault,
    Unavailable,
)

FAILED = 2
SOME_FAILED = 3
INTERRUPTED = 130
EXIT_CODES = {
    0: "all was done",
    FAILED: "wrong usage, or a file that cannot be read or written",
    SOME_FAILED: "some of several inputs failed",
    4: "cannot connect, or the server is starting or stopping: try again later, or another address",
    5: "the server is overloaded: try again later",
    6: "no reply before the deadline: allow more time",
    7: "the server refused the request, the model's name or the API key: change it",
    8: "the server failed: its log has the details",
    INTERRUPTED: "ended by Ctrl-C (143: by SIGTERM)",
}
CODE_OF: dict[type[ServerError], int] = {
    Unavailable: 4,
    Overloaded: 5,
    DeadlinePassed: 6,
    InvalidRequest: 7,
    AccessDenied: 7,
    NotFound: 7,
    ServerFault: 8,
    ServerError: 8,
}


def exit_code_of(error: Exception) -> int:
    """The code for an error that ends the command, or that one input of several ends with."""
    for kind, code in CODE_OF.items():
        if isinstance(error, kind):
            return code
    return FAILED
