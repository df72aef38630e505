"""A peer's Python, and a peer as a process."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path

from bench.caller.http import HttpConnection
from bench.caller.loops import Kind, call_once
from bench.caller.server import INFER, TargetError
from bench.caller.wire import OK, Connection, WireError
from bench.peers.catalogue import Peer

URL_PATH = "/inference"
START_LIMIT_S = 40.0
STOP_LIMIT_S = 8.0
POLL_S = 0.1


def python_of(peer: Peer, folder: Path, onnxruntime: str) -> Path:
    """The interpreter of the peer's environment below `folder`, which is made if it is not there.

    Raises:
        TargetError: its packages cannot be installed; with the end of pip's output.
    """
    home = folder / peer.key
    done, python = home / "installed", home / "bin" / "python"
    wanted = "\n".join([*peer.requirements, f"onnxruntime=={onnxruntime}"])
    if done.is_file() and done.read_text() == wanted:
        return python
    print(f"installing {peer.name} into {home}", file=sys.stderr)
    venv.create(home, clear=True, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", *wanted.split("\n")]
    installed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if installed.returncode:
        raise TargetError(f"{peer.name} cannot be installed: {installed.stdout[-1000:]}")
    done.write_text(wanted)
    return python


def way_of(peer: Peer) -> tuple[str, Kind]:
    """The path of its calls and the caller for it."""
    return (INFER, Connection) if peer.is_grpc else (URL_PATH, HttpConnection)


@contextlib.contextmanager
def served(peer: Peer, python: Path, graph: Path, workers: int, threads: int, message: bytes) -> Iterator[int]:
    """The port of the peer, which has answered `message`.

    Raises:
        TargetError: it ended, or answered nothing; with the end of its output.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"PEER_GRAPH": str(graph), "PEER_PORT": str(port), "PEER_FOLDER": folder}
        environment |= {"PEER_WORKERS": str(workers), "PEER_THREADS": str(threads)}
        process = subprocess.Popen(
            [python, peer.program], cwd=peer.program.parent, env=environment, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            if not _answers(peer, port, message, process):
                log.seek(0)
                raise TargetError(f"{peer.name} does not answer; its output ends:\n{log.read()[-2000:]}")
            yield port
        finally:
            _stop(process)


def _free_port() -> int:
    """Of two in a row, which some peers take."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _answers(peer: Peer, port: int, message: bytes, process: "subprocess.Popen[bytes]") -> bool:
    path, kind = way_of(peer)
    end_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end_s and process.poll() is None:
        with contextlib.suppress(OSError, WireError):
            if call_once(("127.0.0.1", port), path, message, kind).status == OK:
                return True
        time.sleep(POLL_S)
    return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends the process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_LIMIT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
