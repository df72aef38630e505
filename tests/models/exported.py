"""The cases marked `graph` in a model repository, each exported once a session, whichever process needs it first."""

import fcntl
import os
from pathlib import Path

import pytest
import torch

from artifact.repository import read_manifest
from artifact.spec import Spec
from export.pipeline import Request, export
from models.catalogue import ARCHITECTURES
from tests.models.all_cases import CASES
from tests.models.cases.base import ready


def repository(factory: pytest.TempPathFactory) -> Path:
    """The model repository that all processes of this session share, next to pytest-xdist's folder for each."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "families"
    folder.mkdir(exist_ok=True)
    return folder / "repository"


def exported(name: str, factory: pytest.TempPathFactory) -> tuple[Path, Spec]:
    """(the version's folder, its manifest) of a case, exported as a user would who gives what the case says."""
    target = repository(factory)
    case, folder, weights = CASES[name], target / name / "1", target.parent / f"{name}.pth"
    with weights.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            torch.save(dict(case.file(ready(case))), weights)
            configured = ARCHITECTURES[case.architecture].configure(case.config) if case.config else {}
            settings = {key: str(value) for key, value in {**configured, **case.overrides}.items()}
            export(Request(weights, target, name, arch=case.arch, overrides=settings))
    spec = read_manifest(folder)
    assert spec is not None
    return folder, spec
