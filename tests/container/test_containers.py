"""What a container engine does with the server's image, without one: HEALTHCHECK, and SIGTERM to process 1.

The images themselves are not built here. They were built once by hand, all three targets with buildah 1.28 over a
Debian 12 made by debootstrap (Python 3.11; no registry was reachable), and run as process 1 of new PID, mount and
network namespaces, as 10001, without capabilities, on a read-only root with a writable /tmp: fourteen models of the zoo
served, SIGTERM to exit 0 in 3.4 s (5.1 s with the settings of k8s/base/server.env), the GPU image without a GPU exits
with 2, the export image ran k8s/models/export.sh. SIGTERM at 0.4 s and 0.7 s after the start ended the process with
143; before 0.2 s, while Python itself starts, process 1 ignores it.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.container.dockerfile import Dockerfile, shipped
from tests.server.conftest import write_tiny
from tests.serving import ServerProcess

NAMESPACES = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]


def command(word: str) -> list[str]:
    """The words of the server image's instruction."""
    found = Dockerfile(shipped()).last("server-cpu", word).argv
    assert found is not None
    return found


def environment(**settings: object) -> dict[str, str]:
    """The image's, with this virtual environment in place of its own."""
    beside = Path(sys.executable).parent
    shown = {"PATH": f"{beside}:{os.environ['PATH']}", "HOME": "/tmp", "PYTHONUNBUFFERED": "1"}
    return {**shown, **{f"GANSERVE_{name.upper()}": str(value) for name, value in settings.items()}}


def served(repository: Path, *before: str) -> ServerProcess:
    """ENTRYPOINT and CMD as they stand."""
    argv = [*before, *command("ENTRYPOINT"), *command("CMD"), "--json"]
    settings = environment(
        repository=repository, host="127.0.0.1", grpc_port=0, http_port=0, shutdown_delay_s=0, device="cpu", threads=1
    )
    return ServerProcess(argv, settings)


def health(http_port: int) -> int:
    """The exit status of HEALTHCHECK."""
    check = subprocess.run(
        command("HEALTHCHECK"), env=environment(http_port=http_port), capture_output=True, check=False
    )
    return check.returncode


def test_a_server_that_is_ready_is_healthy(tmp_path: Path) -> None:
    write_tiny(tmp_path, "tiny")
    with served(tmp_path) as server:
        assert health(server.http_port) == 0


def test_a_server_with_a_model_that_cannot_be_served_is_not_healthy(tmp_path: Path) -> None:
    write_tiny(tmp_path, "tiny")
    (tmp_path / "tiny" / "1" / "model.onnx").write_bytes(b"not a graph")
    with served(tmp_path) as server:
        assert health(server.http_port) == 1


def test_no_server_is_not_healthy() -> None:
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        assert health(bound.getsockname()[1]) == 1


def namespaces_can_be_had() -> bool:
    return subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif("not namespaces_can_be_had()", reason="no PID namespaces here")
def test_process_1_of_a_container_ends_with_0_on_sigterm(tmp_path: Path) -> None:
    """The kernel gives process 1 only those signals that it handles."""
    write_tiny(tmp_path, "tiny")
    with served(tmp_path, *NAMESPACES) as server:
        assert server.ready
        unshare = server.process.pid
        (child,) = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
        identities = Path(f"/proc/{child}/status").read_text()
        assert f"NSpid:\t{child}\t1\n" in identities
        os.kill(int(child), signal.SIGTERM)
        assert server.wait() == 0
