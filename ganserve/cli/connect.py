"""What every subcommand that calls a server shares: its options, the client, and what is served."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import grpc
import typer

from ganserve.client.address import DEFAULT, VARIABLE
from ganserve.client.client import Client
from ganserve.client.errors import NotFound, Unavailable
from ganserve.client.results import ServedModel

ServerOption = Annotated[
    str, typer.Option("--server", metavar="HOST:PORT", envvar=VARIABLE, help="Server to call; https:// asks for TLS.")
]
DeadlineOption = Annotated[
    float, typer.Option("--deadline", min=0.001, metavar="SECONDS", help="Maximum time for the call.")
]
AuthorityOption = Annotated[Path | None, typer.Option("--ca", metavar="FILE", help="CA certificate (PEM) for TLS.")]
ApiKeyOption = Annotated[
    Path | None,
    typer.Option("--api-key-file", metavar="FILE", help="File with the API key; else it is GANSERVE_CLIENT_API_KEY."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

SERVER = DEFAULT
DEADLINE_S = 300.0
API_KEY_VARIABLE = "GANSERVE_CLIENT_API_KEY"


@contextmanager
def connect(server: str, deadline_s: float, authority: Path | None, api_key_file: Path | None) -> Iterator[Client]:
    """A client for the options above, closed at the end of the block.

    Raises:
        OSError: a file cannot be read.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own lines say less than the error that follows them
    credentials = None if authority is None else grpc.ssl_channel_credentials(authority.read_bytes())
    # Not an option itself: every user of a machine can read the options of every process.
    api_key = os.environ.get(API_KEY_VARIABLE) if api_key_file is None else api_key_file.read_text().strip()
    with Client(server, deadline_s=deadline_s, credentials=credentials, api_key=api_key) as client:
        yield client


def served_model(client: Client, model: str, version: str) -> ServedModel:
    """What the server says of a model that is ready: of the newest version, or that one.

    Raises:
        NotFound: there is none.
        Unavailable: it is not ready.
    """
    found = [each for each in client.models() if each.name == model and version in ("", each.version)]
    ready = [each for each in found if each.state == "READY"]
    if not found:
        raise NotFound(f"the server has no model {model!r}" + (f", version {version}" if version else ""))
    if not ready:
        last = found[-1]
        raise Unavailable(f"{model}: is {last.state}" + (f": {last.reason}" if last.reason else ""))
    return max(ready, key=lambda each: int(each.version))
