"""The cases of tests/models/cases by name, and the two choices among them."""

import importlib
from pathlib import Path

from tests.models.cases.base import Case


def _collect() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for path in sorted((Path(__file__).parent / "cases").glob("*.py")):
        if path.stem != "base":
            found = importlib.import_module(f"tests.models.cases.{path.stem}").CASES
            assert not cases.keys() & found.keys(), f"{path.name} uses a name that is taken"
            cases |= found
    return cases


CASES = _collect()
FIRST = {case.architecture: name for name, case in reversed(CASES.items())}
"""Each architecture's first case, whose image is kept in tests/models/golden."""
GRAPHS = [name for name, case in CASES.items() if case.graph]
"""The cases that are exported, one for every kind of network, and served by tests/test_families.py."""
