"""The installer that the Makefile runs before anything is installed."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ganserve import install

FILE = Path(install.__file__)


def environment(folder: Path, extras: list[str]) -> Path:
    """An environment that looks installed."""
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.symlink_to(sys.executable)
    (folder / install.STAMP).write_text(json.dumps({"inputs": install._inputs(python), "extras": extras}))
    return folder


@pytest.mark.parametrize("extras", ["cpu,export", "native", "dev"])
def test_what_is_installed_is_not_installed_again(extras: str, tmp_path: Path) -> None:
    environment(tmp_path, ["cpu", "dev", "export"])
    command = [sys.executable, "-I", str(FILE), "--venv", str(tmp_path), "--pip", "false", "--extras", extras]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_another_extra_or_another_project_file_asks_for_an_installation(tmp_path: Path) -> None:
    folder = environment(tmp_path, ["cpu"])
    assert install._is_current(folder, ["cpu"])
    assert not install._is_current(folder, ["cpu", "export"])
    (folder / install.STAMP).write_text(json.dumps({"inputs": "older", "extras": ["cpu"]}))
    assert not install._is_current(folder, ["cpu"])
    (folder / install.STAMP).write_text("[")
    assert not install._is_current(folder, ["cpu"])


def test_a_failed_installation_is_exit_code_2_and_leaves_no_stamp(tmp_path: Path) -> None:
    folder = environment(tmp_path, ["cpu"])
    (folder / install.STAMP).unlink()
    command = [sys.executable, "-I", str(FILE), "--venv", str(folder), "--pip", "false", "--extras", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "ganserve: the installation failed; the lines above say why\n"
    assert not (folder / install.STAMP).exists()


def test_an_old_python_is_told_which_one_is_needed() -> None:
    start = f"runpy.run_path({str(FILE)!r}, run_name='__main__')"
    code = f"import runpy, sys; sys.version_info = (3, 9); sys.argv = ['x', '--extras', 'cpu']; {start}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("ganserve: Python 3.11 or newer is needed, this is 3.9 (")


def test_an_old_python_can_read_it_and_it_needs_nothing_installed() -> None:
    tree = ast.parse(FILE.read_text(), feature_version=(3, 7))
    names = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
