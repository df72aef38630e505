"""The cases marked `graph` in a model repository, each exported once a session, whichever process needs it first."""

from pathlib import Path

import pytest
import torch

from artifact.spec import Spec
from export.pipeline import Request, export
from models.catalogue import ARCHITECTURES
from tests.exports import once, shared
from tests.models.all_cases import CASES
from tests.models.cases.base import ready


def repository(factory: pytest.TempPathFactory) -> Path:
    """The model repository that all processes of this session share."""
    return shared(factory, "families") / "repository"


def exported(name: str, factory: pytest.TempPathFactory) -> tuple[Path, Spec]:
    """(the version's folder, its manifest) of a case, exported as a user would who gives what the case says."""
    target = repository(factory)
    case, weights = CASES[name], target.parent / f"{name}.pth"

    def make() -> None:
        torch.save(dict(case.file(ready(case))), weights)
        configured = ARCHITECTURES[case.architecture].configure(case.config) if case.config else {}
        settings = {key: str(value) for key, value in {**configured, **case.overrides}.items()}
        export(Request(weights, target, name, arch=case.arch, overrides=settings))

    return once(target, name, make)
