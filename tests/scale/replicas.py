"""Real server processes, each at an address of its own, and what their cluster's DNS says of them."""

import http.client
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from demo.metrics_page import Page, read_metrics
from tests.scale.name_server import NameServer
from tests.serving import ServerProcess, serve_command

NAME = "ganserve-headless"
LONGEST_S = 60.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Returns once it is so; looks every 10 ms, for want of an event from another process."""
    ends_at = time.monotonic() + LONGEST_S
    while not condition():
        assert time.monotonic() < ends_at, f"not within {LONGEST_S:.0f} s: {what}"
        time.sleep(0.01)


@dataclass
class Replica:
    """One `ganserve serve` at a loopback address of its own."""

    process: ServerProcess
    host: str

    def page(self) -> Page:
        """Its /metrics."""
        return read_metrics(self.process.http_port, self.host)

    def answered(self) -> int:
        """Calls that were answered well, as its /metrics counts them."""
        return round(self.page().total("ganserve_request_duration_seconds_count", code="OK", rpc="Generate"))

    def is_ready(self) -> bool:
        """What a readiness probe of /readyz finds."""
        connection = http.client.HTTPConnection(self.host, self.process.http_port, timeout=10)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        finally:
            connection.close()

    @property
    def server(self) -> str:
        """Where it alone is reached."""
        return f"{self.host}:{self.process.grpc_port}"

    def health(self) -> int:
        """What a gRPC probe finds."""
        with grpc.insecure_channel(self.server, [("grpc.enable_http_proxy", 0)]) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status)


class Replicas:
    """A Deployment and its headless Service in little: every replica that is ready is in the DNS."""

    def __init__(self, repository: Path, names: NameServer, settings: dict[str, str]) -> None:
        self._repository = repository
        self._names = names
        self._settings = settings
        self._started: list[Replica] = []
        self._listed: list[Replica] = []
        with socket.socket() as free:
            free.bind(("", 0))
            self.port = int(free.getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for replica in self._started:
            replica.process.close()

    @property
    def target(self) -> str:
        """Of a client that balances by itself."""
        return f"dns://127.0.0.1:{self._names.port}/{NAME}:{self.port}"

    def start(self, count: int, **settings: str) -> list[Replica]:
        """As many more, ready and in the DNS. `settings`: of these alone."""
        replicas = [self._spawn(settings) for _ in range(count)]  # all at once; each is ready when its line is read
        for replica in replicas:
            wait_until(replica.is_ready, "ready")
        self._list(*self._listed, *replicas)
        return replicas

    def unlist(self, gone: Replica) -> None:
        """From now on the DNS does not have this one."""
        self._list(*(replica for replica in self._listed if replica is not gone))

    def _list(self, *replicas: Replica) -> None:
        self._listed = [*replicas]
        self._names.addresses = [replica.host for replica in replicas]

    def _spawn(self, settings: dict[str, str]) -> Replica:
        host = f"127.0.7.{len(self._started) + 1}"
        given = {**self._settings, **settings, "host": host, "grpc_port": str(self.port)}
        options = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
        replica = Replica(ServerProcess(serve_command(self._repository, *options)), host)
        self._started.append(replica)
        return replica
