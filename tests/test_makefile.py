"""How the Makefile makes the virtual environment, in a copy of the project with an installer that only takes notes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def write_script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


class Project:
    """A folder with the Makefile, pyproject.toml and an installer that writes its arguments to `installed`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "installed"
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy2(ROOT / name, folder)
        write_script(folder / "pip", f'echo "$VIRTUAL_ENV $*" >> {self.notes}')

    def make(self, target: str, **variables: str) -> subprocess.CompletedProcess[str]:
        defaults = {"PYTHON": sys.executable, "PIP": "./pip"}
        words = [f"{name}={value}" for name, value in {**defaults, **variables}.items()]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        return subprocess.run(
            ["make", target, *words], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    @property
    def installed(self) -> list[str]:
        """A line for each installation."""
        return self.notes.read_text().splitlines() if self.notes.exists() else []


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.slow
def test_the_environment_is_made_and_filled_once_until_pyproject_changes(project: Project) -> None:
    environment = project.folder / ".venv"
    assert project.make(".venv/dev.stamp", PIP="false").returncode == 2
    assert not (environment / "dev.stamp").exists(), "the installation failed"
    for stamp in ("dev", "dev", "demo"):  # dev contains what the demo needs
        assert project.make(f".venv/{stamp}.stamp").returncode == 0
    assert project.installed == [f"{environment} install --quiet --editable .[cpu,dev,export,tensorrt-rtx]"]
    assert subprocess.run([environment / "bin" / "pip", "--version"], capture_output=True, check=False).returncode == 0
    os.utime(project.folder / "pyproject.toml")
    assert project.make(".venv/demo.stamp").returncode == 0
    assert project.installed[1:] == [f"{environment} install --quiet --editable .[cpu,export,native]"]


@pytest.mark.parametrize(
    ("before", "says"),
    [
        ("sys.version_info = (3, 9, 2)", "is Python 3.9, 3.11 or newer is needed; try: make PYTHON=python3.12"),
        ("sys.path[:] = []", "has no ensurepip; on Debian: apt-get install python3-venv"),
    ],
)
def test_a_python_that_cannot_make_it_is_one_clear_line(project: Project, before: str, says: str) -> None:
    python = project.folder / "python"
    code = f"import sys, importlib.util; {before}; exec(sys.argv[1])"
    write_script(python, f'exec {sys.executable} -c "{code}" "$2"')
    done = project.make(".venv/demo.stamp", PYTHON="./python")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == f"ganserve: ./python {says}"
    assert not (project.folder / ".venv").exists()
    assert project.installed == []


def test_help_lists_every_target(project: Project) -> None:
    listed = [line.split()[1] for line in project.make("help").stdout.splitlines()]
    assert listed == ["help", "demo", "test", "test-fast", "node", "gpu-check", "check", "clean"]
