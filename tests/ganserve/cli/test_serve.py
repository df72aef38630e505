"""`ganserve serve` as a process, with the real server behind it."""

import subprocess
import sys
from pathlib import Path

import pytest

from demo.metrics_page import read_metrics
from ganserve import Client, NotFound
from tests.serving import running


@pytest.mark.parametrize("frontend", ["native", "grpcio"])
def test_a_server_says_where_it_is_answers_and_ends_with_0_after_sigterm(frontend: str, tmp_path: Path) -> None:
    with running(tmp_path, "--frontend", frontend) as process:
        ready = process.ready
        assert (ready["frontend"], ready["device"], ready["models"]) == (frontend, "cpu", 0)
        with Client(process.address, deadline_s=30) as client:
            assert client.models() == []
            with pytest.raises(NotFound, match="nothing"):
                client.generate("nothing", seeds=1)
        page = read_metrics(process.http_port)
        assert page.distribution("ganserve_request_duration_seconds", rpc="ListModels").total == 1
        process.terminate()
        assert process.wait() == 0


def test_a_setting_that_is_wrong_in_the_environment_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ganserve", "serve", "--repository", str(tmp_path)]
    environment = {"PATH": "/usr/bin:/bin", "GANSERVE_GRPC_PROT": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ganserve: unknown setting in the environment: GANSERVE_GRPC_PROT\n"
