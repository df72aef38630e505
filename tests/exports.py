"""Exports that all processes of a session share: whichever needs one first makes it."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from artifact.repository import read_manifest
from artifact.spec import Spec
from export.pipeline import Request, export


def shared(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder of that name next to pytest-xdist's folder for each process."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    folder.mkdir(exist_ok=True)
    return folder


def once(repository: Path, name: str, make: Callable[[], object]) -> tuple[Path, Spec]:
    """(the version's folder, its manifest) of a model that `make` exports into a shared folder, unless it is there."""
    folder = repository / name / "1"
    with (repository.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            make()
    spec = read_manifest(folder)
    assert spec is not None
    return folder, spec


def of_zoo(name: str, factory: pytest.TempPathFactory) -> tuple[Path, Spec]:
    """(the version's folder, its manifest) of a model of the zoo; not to be changed on disk."""
    repository = shared(factory, "zoo") / "repository"
    return once(repository, name, lambda: export(Request(name, repository, name)))
