"""The real Envoy with the configuration that k8s/ ships, but for ports and the name server."""

import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from demo.metrics_page import Page
from tests.scale.name_server import NameServer
from tests.scale.replicas import LONGEST_S, NAME, wait_until

SHIPPED = Path(__file__).resolve().parents[2] / "k8s" / "components" / "envoy" / "envoy.yaml"
ENVOY = Path(sys.executable).with_name("envoy")
LOOPBACK = "127.0.0.1"
SAME: Mapping[str, str] = {}


class Balancer:
    """A running Envoy; it has begun when every replica in the DNS is healthy for it.

    `other`: fields of the shipped file with their values here.
    """

    def __init__(
        self, folder: Path, names: NameServer, replica_port: int, host: str = LOOPBACK, other: Mapping[str, str] = SAME
    ) -> None:
        self.host = host
        self._admin, self._stats, self.port = free_ports(host, 3)
        self._healthy = len(names.addresses)
        path = folder / f"{host}.json"
        path.write_text(json.dumps(self._moved(_shipped(other), names.port, replica_port)))
        self._log = folder / f"{host}.log"
        command = [str(ENVOY), "-c", str(path), "--use-dynamic-base-id", "--concurrency", "2"]
        self._process = subprocess.Popen([*command, "--log-path", str(self._log), "--log-level", "info"])

    @property
    def server(self) -> str:
        """Where callers connect."""
        return f"{self.host}:{self.port}"

    def __enter__(self) -> Self:
        wait_until(lambda: self.healthy() == self._healthy, f"every replica healthy for Envoy; see {self._log}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(LONGEST_S)

    def healthy(self) -> int:
        """Replicas that it would send a call to; -1 while it starts."""
        try:
            status, text = self.get("/stats/prometheus")
        except ConnectionRefusedError:
            return -1
        if status != http.HTTPStatus.OK:
            return -1
        return round(Page(text).total("envoy_cluster_membership_healthy", envoy_cluster_name="ganserve"))

    def connections(self) -> int:
        """Callers that are connected."""
        text = self.get("/stats/prometheus")[1]
        return round(Page(text).total("envoy_http_downstream_cx_active", envoy_http_conn_manager_prefix="grpc"))

    def told_to_stop(self) -> int:
        """Its exit status on SIGTERM, as from the kubelet."""
        self._process.terminate()
        return self._process.wait(LONGEST_S)

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        """(status, text) from the port of probes and statistics."""
        assert self._process.poll() is None, self._log.read_text()
        connection = http.client.HTTPConnection(self.host, self._stats, timeout=10)
        try:
            connection.request(method, path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def _moved(self, config: dict[str, Any], dns_port: int, replica_port: int) -> dict[str, Any]:
        """Every port replaced by a free one; the cluster's name server replaced by ours."""
        listeners = {listener["name"]: _at(listener) for listener in config["static_resources"]["listeners"]}
        listeners["grpc"].update(address=self.host, port_value=self.port)
        listeners["stats"].update(address=self.host, port_value=self._stats)
        _at(config["admin"])["port_value"] = self._admin
        clusters = {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}
        _endpoint(clusters["admin"])["port_value"] = self._admin
        assert _endpoint(clusters["ganserve"]) == {"address": NAME, "port_value": 8001}
        _endpoint(clusters["ganserve"])["port_value"] = replica_port
        clusters["ganserve"]["cluster_type"]["typed_config"]["typed_dns_resolver_config"] = {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                "resolvers": [{"socket_address": {"address": LOOPBACK, "port_value": dns_port}}],
            },
        }
        return config


def _shipped(other: Mapping[str, str]) -> dict[str, Any]:
    text = SHIPPED.read_text()
    for field, value in other.items():
        text, found = re.subn(rf"\b{field}: \S+$", f"{field}: {value}", text, flags=re.MULTILINE)
        assert found == 1, field
    return dict(yaml.safe_load(text))


def _at(part: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = part["address"]["socket_address"]
    return found


def _endpoint(cluster: dict[str, Any]) -> dict[str, Any]:
    return _at(cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"])


def free_ports(host: str, count: int) -> list[int]:
    """Ports that nobody listens on, for programs that take no 0."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((host, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
