"""What extras of pyproject.toml bring, found without a network: from what is installed here."""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.container.dockerfile import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PACKAGES: list[str] = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def pins() -> dict[str, str]:
    """Name -> version, of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(re.fullmatch(r"([a-z0-9-]+)==(\S+)", line).groups() for line in lines if line[:1] not in ("", "#"))  # type: ignore[union-attr, misc]


def closure(extras: Iterable[str]) -> tuple[set[str], set[str]]:
    """Names of all distributions that ganserve with these extras needs, and those of them that are not installed here.

    What one of the latter would bring is not known.
    """
    waiting = [Requirement(f"ganserve[{','.join(extras)}]")]
    seen: set[tuple[str, str]] = set()
    absent: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) not in seen:
                seen.add((name, extra))
                try:
                    waiting += _needs(name, extra)
                except importlib.metadata.PackageNotFoundError:
                    absent.add(name)
    return {name for name, _ in seen} - {"ganserve"}, absent


def _needs(name: str, extra: str) -> list[Requirement]:
    """What the distribution needs for itself, or for that extra of it.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    if name == "ganserve":  # as pyproject.toml has it now, not as it was when it was installed
        return [Requirement(text) for text in (EXTRAS[extra] if extra else PROJECT["dependencies"])]
    found = [Requirement(text) for text in importlib.metadata.requires(name) or ()]
    return [each for each in found if each.marker is None or each.marker.evaluate({"extra": extra})]
