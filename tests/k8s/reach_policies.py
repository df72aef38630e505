"""How callers from outside reach the servers: routes, ingresses, certificates."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from tests.k8s.pods import servers, settings_of
from tests.k8s.policy import policy
from tests.k8s.rendering import Object, named, of_kind, title

PORT_OF = {"GRPCRoute": "grpc", "HTTPRoute": "rest", "Ingress": "grpc"}
ALERT_S = 7 * 86400  # GanserveCertificateExpires


def _backends(found: Object) -> Iterator[Mapping[str, Any]]:
    for rule in found["spec"]["rules"]:
        yield from rule.get("backendRefs", ())
        for path in rule.get("http", {}).get("paths", ()):
            service = path["backend"]["service"]
            yield {"name": service["name"], "port": service["port"]["name"]}


@policy("cpu+gateway-api", "GRPCRoute/ganserve", "spec rules 0 backendRefs 0 port", 8000, "not the port grpc")
def routes_lead_to_the_servers(objects: Sequence[Object]) -> Iterator[str]:
    for found in of_kind(objects, *PORT_OF):
        for backend in _backends(found):
            service = named(objects, f"Service/{backend['name']}")
            named_port = {port["name"]: port["port"] for port in service["spec"]["ports"]}
            wanted = PORT_OF[found["kind"]]
            if backend["port"] not in (wanted, named_port.get(wanted)):
                yield f"{title(found)}: leads to {backend['port']} of {backend['name']}, not the port {wanted}"


@policy("cpu+gateway-api", "HTTPRoute/ganserve", "spec hostnames", ["ganserve.example.com"], "GRPCRoute/ganserve has")
def hosts_of_routes_differ(objects: Sequence[Object]) -> Iterator[str]:
    """A Gateway serves a host's name by routes of one kind only."""
    owners: dict[str, str] = {}
    for found in of_kind(objects, "GRPCRoute", "HTTPRoute"):
        for host in found["spec"]["hostnames"]:
            if host in owners:
                yield f"{title(found)}: {owners[host]} has {host}, too"
            owners[host] = title(found)


@policy("cpu+tls+tracing", "Certificate/ganserve", "spec secretName", "other", "is not mounted")
def a_certificate_is_read_and_read_again(objects: Sequence[Object]) -> Iterator[str]:
    for pod in servers(objects):
        secrets = {each["name"]: each["secret"]["secretName"] for each in pod.spec["volumes"] if "secret" in each}
        mounts = {secrets[each["name"]]: each for each in pod.main.get("volumeMounts", ()) if each["name"] in secrets}
        for found in of_kind(objects, "Certificate"):
            mount = mounts.get(found["spec"]["secretName"])
            settings = settings_of(pod, objects)
            if mount is None:
                yield f"{title(found)}: {found['spec']['secretName']} is not mounted into {pod.owner}"
                continue
            files = [PurePosixPath(str(each)) for each in (settings.tls_certificate, settings.tls_key)]
            if files != [PurePosixPath(mount["mountPath"], name) for name in ("tls.crt", "tls.key")]:
                yield f"{pod.owner}: reads {files}, mounts {mount['mountPath']}"
            if "subPath" in mount:
                yield f"{pod.owner}: a file that is mounted by subPath is never renewed"
            if int(found["spec"]["renewBefore"].removesuffix("h")) * 3600 <= ALERT_S:
                yield f"{title(found)}: is renewed after the alert"
