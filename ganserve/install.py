"""Makes `.venv` and installs the project with the extras named; does nothing where that is done already.

The Makefile runs this file with whatever Python the user has, before anything is installed: standard library only, and
no syntax that an old Python could not even read, so that it can say which Python is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import venv
from pathlib import Path

NEEDED = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
STAMP = "ganserve-installed.json"


def main() -> None:
    """Reads the command line; exits with 2 and one line where the machine lacks something."""
    parser = argparse.ArgumentParser(description="Make a virtual environment with ganserve in it.")
    parser.add_argument("--venv", default=".venv", help="folder of the environment, relative to the project")
    parser.add_argument("--extras", required=True, help="comma-separated, as in pyproject.toml")
    parser.add_argument("--pip", default="", help="command that installs; the environment's own pip where not given")
    given = parser.parse_args()
    if sys.version_info < NEEDED:
        found = f"{sys.version_info[0]}.{sys.version_info[1]} ({sys.executable})"
        sys.exit(
            _fail(f"Python {NEEDED[0]}.{NEEDED[1]} or newer is needed, this is {found}; try: make PYTHON=python3.12")
        )
    folder = ROOT / given.venv
    extras = sorted(given.extras.split(","))
    if _is_current(folder, extras):
        return
    python = folder / "bin" / "python"
    if not _runs(python):
        print(f"making {folder}", flush=True)
        _make(folder)
    print(f"installing ganserve[{','.join(extras)}]; the first time this takes some minutes", flush=True)
    if _install(folder, python, extras, given.pip) != 0:
        sys.exit(_fail("the installation failed; the lines above say why"))
    state = {"inputs": _inputs(python), "extras": extras}
    (folder / STAMP).write_text(json.dumps(state))


def _fail(text: str) -> int:
    print(f"ganserve: {text}", file=sys.stderr)
    return 2


def _inputs(python: Path) -> str:
    """Hash of everything that an installation depends on."""
    project = (ROOT / "pyproject.toml").read_bytes()
    return hashlib.sha256(project + str(ROOT).encode() + str(python.resolve()).encode()).hexdigest()


def _is_current(folder: Path, extras: list[str]) -> bool:
    python = folder / "bin" / "python"
    try:
        state = json.loads((folder / STAMP).read_text())
        held = set(state["extras"])
        same = state["inputs"] == _inputs(python)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if "dev" in held:
        held.add("native")  # dev contains it
    return same and set(extras) <= held and _runs(python)


def _runs(python: Path) -> bool:
    """Whether the environment's Python starts: it does not after an upgrade of the one it was made from."""
    try:
        return subprocess.run([str(python), "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _make(folder: Path) -> None:
    """A fresh environment; Debian ships ensurepip in a package of its own, where pip can still install from outside."""
    own_pip = importlib.util.find_spec("ensurepip") is not None
    if not own_pip and importlib.util.find_spec("pip") is None:
        sys.exit(_fail("this Python has neither ensurepip nor pip; on Debian: apt-get install python3-venv"))
    venv.create(folder, clear=True, symlinks=True, with_pip=own_pip)


def _install(folder: Path, python: Path, extras: list[str], pip: str) -> int:
    """The exit code of pip. Without a terminal only what goes wrong is printed."""
    if pip:
        command = [*shlex.split(pip), "install"]
    elif subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0:
        command = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    else:
        command = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    environment = {**os.environ, "VIRTUAL_ENV": str(folder)}
    if os.geteuid() == 0:
        environment["PIP_ROOT_USER_ACTION"] = "ignore"
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    target = f"{ROOT}[{','.join(extras)}]"
    return subprocess.run([*command, *quiet, "--editable", target], env=environment, check=False).returncode


if __name__ == "__main__":
    main()
