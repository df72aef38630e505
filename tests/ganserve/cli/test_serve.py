"""`ganserve serve`: its options and its help, then as a process with the real server behind it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from demo.metrics_page import read_metrics
from ganserve import Client, NotFound
from ganserve.cli.app import app
from ganserve.cli.main import main
from server.setting_texts import choices_of, default_text
from server.settings import Panel, Settings
from tests.serving import running

WITHOUT_SERVER_EXTRA = """
import sys
for name in ("pydantic_settings", "prometheus_client", "onnxruntime", "grpc_health", "grpc_reflection"):
    sys.modules[name] = None
from ganserve.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_help_has_an_option_for_every_setting_with_its_choices_and_default_in_panels() -> None:
    found = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "400", "TERM": "dumb"})
    assert found.exit_code == 0
    lines = {line.split()[1]: line for line in found.output.splitlines() if re.match(r"\W*--", line)}
    options = {f"--{name.replace('_', '-')}": (name, field) for name, field in Settings.model_fields.items()}
    assert set(lines) == {*options, "--json", "--help"}
    for option, (name, field) in options.items():
        assert f"Default: {default_text(name, field)}." in lines[option] or field.is_required()
        assert str(field.description) in lines[option]
        assert "|".join(choices_of(field)) in lines[option]
    assert re.findall(r"^\W* (\w[\w ]*\w) \W*$", found.output, re.MULTILINE)[1:] == list(Panel)


def test_a_word_that_is_no_choice_is_refused_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--log-format", "xml"]) == 2
    assert re.search("'--log-format'.*'xml' is not one of 'text', 'json'", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--help"], 0, "serve"),
        (["generate", "--help"], 0, "--seeds"),
        (["serve", "--help"], 2, "this needs: pip install 'ganserve[cpu]'"),
    ],
)
def test_without_the_servers_packages_only_serve_fails_and_names_the_extra(
    arguments: list[str], status: int, text: str
) -> None:
    command = [sys.executable, "-c", WITHOUT_SERVER_EXTRA, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert text in done.stdout + done.stderr
    assert status == 0 or done.stderr.count("\n") == 1


@pytest.mark.parametrize("frontend", ["native", "grpcio"])
def test_a_server_says_where_it_is_answers_and_ends_with_0_after_sigterm(frontend: str, tmp_path: Path) -> None:
    with running(tmp_path, "--frontend", frontend) as process:
        ready = process.ready
        assert (ready["frontend"], ready["device"], ready["models"]) == (frontend, "cpu", 0)
        assert ready["exposed"] == {"address": "127.0.0.1", "tls": "off", "api_keys": 0, "model_control": False}
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
