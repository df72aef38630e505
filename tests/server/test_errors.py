"""The tree of errors and the gRPC statuses."""

import re
from collections.abc import Iterator

import grpc

from server import errors


def subclasses(kind: type[errors.GanserveError]) -> Iterator[type[errors.GanserveError]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_errors_code_is_a_grpc_status_and_not_that_of_success() -> None:
    codes = {kind.code for kind in subclasses(errors.GanserveError)}
    assert codes <= {status.name for status in grpc.StatusCode} - {"OK"}


def test_the_tree_in_the_docstring_has_the_codes_of_the_classes() -> None:
    told = dict(re.findall(r"─ (\w+) +([A-Z_]{6,})", errors.__doc__ or ""))
    known = [kind for kind in subclasses(errors.GanserveError) if kind.__module__ == errors.__name__]
    leaves = [kind for kind in known if not any(other in known for other in kind.__subclasses__())]
    assert told == {kind.__name__: kind.code for kind in leaves if kind is not errors.StartError}
