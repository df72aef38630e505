"""A server that is told what the manifests tell it."""

import os
import sys
from pathlib import Path

from tests.k8s.pods import environment, servers
from tests.k8s.rendering import overlay
from tests.serving import ServerProcess


def told(tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """Command and variables of the cpu overlay's server, with folders and ports of this machine."""
    objects = overlay("cpu")
    pod = next(servers(objects))
    variables = environment(pod, pod.main, objects)
    for name in ("GANSERVE_REPOSITORY", "GANSERVE_ENGINE_CACHE", "HOME"):
        assert variables[name].startswith("/")
        variables[name] = str(tmp_path)
    variables |= {
        "GANSERVE_GRPC_PORT": "0",
        "GANSERVE_HTTP_PORT": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
    }
    return [*pod.main["command"], *pod.main["args"]], variables


def test_a_server_starts_with_the_variables_of_the_manifests(tmp_path: Path) -> None:
    command, variables = told(tmp_path)
    with ServerProcess([*command, "--json", "--shutdown-delay-s", "0"], variables) as server:
        assert (server.ready["device"], server.ready["models"]) == ("cpu", 0)


def test_with_service_links_it_starts_too(tmp_path: Path) -> None:
    command, variables = told(tmp_path)
    links = {"GANSERVE_SERVICE_HOST": "10.0.0.1", "GANSERVE_PORT": "tcp://10.0.0.1:8001"}
    with ServerProcess([*command, "--json", "--shutdown-delay-s", "0"], {**variables, **links}) as server:
        assert server.ready["models"] == 0
