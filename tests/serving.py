"""`ganserve serve` in a process of its own, for tests that need the real command."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

START_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0
SERVE = (sys.executable, "-W", "error", "-m", "ganserve", "serve", "--json")


def serve_command(repository: Path, *options: str) -> list[str]:
    """`ganserve serve --json` on free ports of loopback, without a shutdown delay. The last of equal options counts."""
    defaults = ("--host", "127.0.0.1", "--grpc-port", "0", "--http-port", "0", "--shutdown-delay-s", "0")
    return [*SERVE, "--repository", str(repository), *defaults, *options]


@contextmanager
def running(repository: Path, *options: str) -> Iterator["ServerProcess"]:
    """A server that is ready. Ends it with SIGTERM, unless the test has ended it, and checks its exit status."""
    with ServerProcess(serve_command(repository, *options)) as server:
        assert server.ready
        yield server


class ServerProcess:
    """A command that runs the server with `--json`: starts at once, is ready once `ready` has been read.

    As a context: on leaving, a process that still runs gets SIGTERM and must exit with 0, and whatever happens none is
    left behind.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        descriptor, name = tempfile.mkstemp(prefix="ganserve-", suffix=".log")
        self._log = Path(name)
        self._terminated = False
        try:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=descriptor, text=True, env=environment, cwd=folder
            )
        finally:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            if failure is None and self.process.poll() is None:
                self.terminate()
                status = self.wait()
                assert status == 0, f"exit status {status}\n{self.log}"
        finally:
            self.close()

    @cached_property
    def ready(self) -> dict[str, Any]:
        """The line that the server prints once it is ready: grpc_port, http_port, frontend, device, models, ..."""
        assert self.process.stdout is not None
        watch = threading.Timer(START_LIMIT_S, self.process.kill)
        watch.start()
        try:
            line = self.process.stdout.readline()
        finally:
            watch.cancel()
            watch.join()
        assert line, f"not ready, exit status {self.process.wait(STOP_LIMIT_S)}\n{self.log}"
        return dict(json.loads(line))

    @property
    def grpc_port(self) -> int:
        return int(self.ready["grpc_port"])

    @property
    def http_port(self) -> int:
        return int(self.ready["http_port"])

    @property
    def address(self) -> str:
        """HOST:PORT of gRPC on loopback."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def log(self) -> str:
        """What the process has written to stderr."""
        return self._log.read_text(errors="backslashreplace")

    def terminate(self) -> None:
        """SIGTERM, once: a second one may come when the server does not handle it any more."""
        if not self._terminated:
            self._terminated = True
            self.process.terminate()

    def kill(self) -> None:
        """SIGKILL, if it still runs; returns once it has ended."""
        with self.process:  # closes its pipe and waits for it
            self.process.kill()

    def close(self) -> None:
        """Kills it, if it still runs, and deletes its log."""
        self.kill()
        self._log.unlink(missing_ok=True)

    def wait(self) -> int:
        """The exit status, once the process has ended."""
        try:
            return self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {STOP_LIMIT_S:.0f} s\n{self.log}") from None
