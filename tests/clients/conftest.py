"""One server for each front end, for the clients that others have written."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.conftest import write_tiny
from tests.server.graphs import write_styled
from tests.serving import ServerProcess, running

LIMIT_S = 60
# So that every RPC may be called.
OPEN = ("--model-control", "explicit", "--shared-memory")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with `tiny`, tensors alone, and `styled`, a generator."""
    root = tmp_path_factory.mktemp("clients") / "repository"
    write_tiny(root, "tiny")
    write_styled(root, "styled")
    return root


@pytest.fixture(scope="session", params=["native", "grpcio"])
def server(request: pytest.FixtureRequest, small: Path) -> Iterator[ServerProcess]:
    with running(small, "--frontend", request.param, "--device", "cpu", *OPEN) as server:
        yield server


def output_of(*command: str, environment: dict[str, str] | None = None) -> str:
    """What a program that ends well prints."""
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment, stdin=subprocess.DEVNULL
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def program(name: str) -> str:
    """A command that a Python package has brought."""
    return str(Path(sys.executable).with_name(name))
