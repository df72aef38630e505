"""The options of every subcommand that talks to a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import grpc
import typer

from ganserve.cli.output import CommandError
from ganserve.client.client import Client
from ganserve.client.errors import Unavailable

ServerOption = Annotated[str, typer.Option("--server", metavar="HOST:PORT", help="The server to ask.")]
DeadlineOption = Annotated[
    float, typer.Option("--deadline", min=0.001, metavar="SECONDS", help="Longest that the call may take.")
]
AuthorityOption = Annotated[
    Path | None, typer.Option("--ca", metavar="FILE", help="Connect with TLS; PEM file of whom to trust.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

SERVER = "localhost:8001"
DEADLINE_S = 300.0


@contextmanager
def connect(server: str, deadline_s: float, authority: Path | None) -> Iterator[Client]:
    """A client for the options above, closed at the end of the block.

    Raises:
        OSError: the file of `--ca` cannot be read.
        CommandError: nobody answers at `server`.
    """
    credentials = None if authority is None else grpc.ssl_channel_credentials(authority.read_bytes())
    with Client(server, deadline_s=deadline_s, credentials=credentials) as client:
        try:
            yield client
        except Unavailable as error:
            raise CommandError(f"{server}: {error.text}") from None
