"""Three replicas behind Envoy, as a cluster would run them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.scale.balancer import Balancer
from tests.scale.name_server import NameServer
from tests.scale.replicas import Replicas
from tests.server.graphs import write_styled

SETTINGS = {
    "device": "cpu", "threads": "1", "codec_threads": "1", "frontend": "grpcio", "shutdown_delay_s": "2",
    "drain_s": "10", "log_format": "json",
}  # fmt: skip


@pytest.fixture(scope="session")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one small generator."""
    root = tmp_path_factory.mktemp("scale") / "repository"
    write_styled(root, "styled")
    return root


Deploy = Callable[..., Replicas]


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer() as server:
        yield server


@pytest.fixture
def deploy(styled: Path, names: NameServer) -> Iterator[Deploy]:
    """`deploy(setting="value")`: replicas of which none is started yet."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(Replicas(styled, names, {**SETTINGS, **settings}))


Balance = Callable[..., Balancer]


@pytest.fixture
def balance(tmp_path: Path, names: NameServer) -> Iterator[Balance]:
    """`balance(replicas, "127.0.0.1", {field of the file: value})`: Envoy before those that are ready."""
    with ExitStack() as stack:
        yield lambda replicas, *others: stack.enter_context(Balancer(tmp_path, names, replicas.port, *others))
