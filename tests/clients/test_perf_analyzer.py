"""Triton's perf_analyzer, where it is on the path and starts.

Its wheel (`pip download --no-deps --platform manylinux_2_38_x86_64 --only-binary=:all: perf-analyzer`) needs glibc
2.38, which Debian 12 does not have. With the libraries of a newer Debian unpacked beside it, it starts by their loader:
`ld-linux-x86-64.so.2 --library-path ... perf_analyzer`.
"""

import shutil
import subprocess

import pytest

from tests.clients.conftest import output_of
from tests.serving import ServerProcess


@pytest.fixture(scope="module")
def perf_analyzer() -> str:
    """The program; skips the test without it."""
    found = shutil.which("perf_analyzer")
    if found is None:
        pytest.skip("perf_analyzer not found: pip install perf-analyzer, with glibc 2.38 or newer")
    if subprocess.run([found, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("perf_analyzer does not start: its wheel needs glibc 2.38 or newer")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(("model", "memory"), [("tiny", "none"), ("tiny", "system"), ("styled", "none")])
def test_it_measures_over_both_protocols(
    perf_analyzer: str, server: ServerProcess, protocol: str, model: str, memory: str
) -> None:
    port = server.grpc_port if protocol == "grpc" else server.ready["rest_port"]
    options = (
        "--request-count",
        "20",
        "--concurrency-range",
        "2",
        "--input-data",
        "zero",
        "-b",
        "4",
        "--shared-memory",
        memory,
    )
    text = output_of(perf_analyzer, "-m", model, "-i", protocol, "-u", f"127.0.0.1:{port}", *options)
    assert "Throughput" in text
