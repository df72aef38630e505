"""The options of every subcommand that calls a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import grpc
import typer

from ganserve.cli.output import CommandError
from ganserve.client.client import Client
from ganserve.client.errors import Unavailable

ServerOption = Annotated[str, typer.Option("--server", metavar="HOST:PORT", help="Server to call.")]
DeadlineOption = Annotated[
    float, typer.Option("--deadline", min=0.001, metavar="SECONDS", help="Maximum time for the call.")
]
AuthorityOption = Annotated[Path | None, typer.Option("--ca", metavar="FILE", help="CA certificate (PEM) for TLS.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

SERVER = "localhost:8001"
DEADLINE_S = 300.0


@contextmanager
def connect(server: str, deadline_s: float, authority: Path | None) -> Iterator[Client]:
    """A client for the options above, closed at the end of the block.

    Raises:
        OSError: the file of `--ca` cannot be read.
        CommandError: cannot connect to `server`, or it is starting or stopping.
    """
    credentials = None if authority is None else grpc.ssl_channel_credentials(authority.read_bytes())
    with Client(server, deadline_s=deadline_s, credentials=credentials) as client:
        try:
            yield client
        except Unavailable as error:
            raise CommandError(f"{server}: {error.text}") from None
