"""Writes docs/triton.md from the server's table of config.pbtxt's fields; `--check` only compares.

python -m docs.triton_page [--check]
"""

import sys
from pathlib import Path

from docs.generated import write
from server.repository.config_fields import FIELDS, Treatment

PAGE = Path(__file__).with_name("triton.md")
HEAD = """# In place of a Triton server

<!-- Written by `python -m docs.triton_page` from server/repository/config_fields.py; do not edit. -->

Clients of Triton's gRPC protocol and its model repositories (ONNX graphs, TensorRT engines) work unchanged, but for
what this page says.

## Status codes and answers

| situation | here | Triton |
|---|---|---|
| a model that could not be loaded is called | UNAVAILABLE, with the reason: another replica may serve it | NOT_FOUND, \
or UNAVAILABLE if the call names the version |
| a model that is being loaded is called | UNAVAILABLE: it is worth another try | NOT_FOUND, or \
UNAVAILABLE if the call names the version |
| an unloaded model is called | NOT_FOUND | NOT_FOUND, or UNAVAILABLE if the call names the version |
| a model cannot be loaded by RepositoryModelLoad | UNAVAILABLE, NOT_FOUND if there is no such folder | INTERNAL |
| the queue is full | RESOURCE_EXHAUSTED, on `grpcio` with `grpc-retry-pushback-ms` | UNAVAILABLE |
| the queue timeout passes | DEADLINE_EXCEEDED | UNAVAILABLE |
| the header of a restricted protocol is missing | PERMISSION_DENIED | UNAVAILABLE |
| a `priority` above `priority_levels` | INVALID_ARGUMENT | the default level |
| an output is requested twice | INVALID_ARGUMENT | accepted |
| BYTES that are not UTF-8 | INVALID_ARGUMENT: the engines take strings as text | passed to the graph |
| `--model-control explicit` without `--load-model` | loads every model at the start | loads none |
| a repository is polled | what is the same at two looks is loaded | at the first look |
| `version_policy` latest, and the newest version is not whole | the next older one serves, and the index says so | \
none serves |
| a TensorRT engine is handed over (load with `file:`) | INVALID_ARGUMENT: it is native code, so it is taken from the \
repository only | served |
| files of more than `--max-override-bytes` are handed over | RESOURCE_EXHAUSTED | served |
| a call's metadata | up to 64 KiB | up to 8 KiB |

## config.pbtxt

A field that is *refused* keeps the model from loading, with a reason in the index. One of *no effect* is logged at
level warning when the model is loaded.

| field | | |
|---|---|---|
"""


def page() -> str:
    """The text of docs/triton.md."""
    rows = []
    for path, (treatment, why) in FIELDS.items():
        shown = str(treatment) if treatment is Treatment.HONOURED else f"**{treatment}**"
        rows.append(f"| `{path}` | {shown} | {why} |\n")
    return HEAD + "".join(rows)


def main(arguments: list[str]) -> int:
    """See `write`."""
    return write(PAGE, page(), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
