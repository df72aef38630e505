"""`ganserve serve` in a process of its own."""

import json
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import OUT, DemoError

LOG = OUT / "server.log"
READY_S = 300.0
STOP_S = 60.0


@dataclass(frozen=True)
class RunningServer:
    """The ports on loopback."""

    grpc_port: int
    http_port: int

    @property
    def address(self) -> str:
        """HOST:PORT of gRPC."""
        return f"127.0.0.1:{self.grpc_port}"


@contextmanager
def running_server(repository: Path) -> Iterator[RunningServer]:
    """A server of the repository on free ports, ready; at the end it must stop cleanly.

    Raises:
        DemoError: it did not start, or did not end with code 0 after SIGTERM.
    """
    print("\nServer: reading, verifying and warming every model", flush=True)
    command = [sys.executable, "-m", "ganserve", "serve", "--repository", str(repository), "--host", "127.0.0.1"]
    command += ["--grpc-port", "0", "--http-port", "0", "--shutdown-delay-s", "0", "--json"]
    with LOG.open("w") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            facts = _wait_ready(process)
            print(
                f"Server: {facts['models']} models ready, front end {facts['frontend']}, device {facts['device']}, "
                f"gRPC port {facts['grpc_port']}, HTTP port {facts['http_port']}\n",
                flush=True,
            )
            yield RunningServer(facts["grpc_port"], facts["http_port"])
            process.send_signal(signal.SIGTERM)
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise DemoError(f"the server did not stop within {STOP_S:g} s of SIGTERM; see {LOG}") from None
        finally:
            if process.poll() is None:
                process.kill()
    if code != 0:
        raise DemoError(f"the server ended with code {code}; see {LOG}")
    print("Server: stopped by SIGTERM, exit code 0")


def _wait_ready(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The facts of the server's ready line."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], READY_S)
    line = process.stdout.readline() if readable else ""
    if not line:
        last = LOG.read_text().strip().splitlines()[-1:] or ["no output"]
        raise DemoError(f"the server did not start: {last[0]}")
    facts: dict[str, Any] = json.loads(line)
    if facts["unavailable"]:
        raise DemoError(f"{facts['unavailable']} model(s) could not be loaded; see {LOG}")
    return facts
