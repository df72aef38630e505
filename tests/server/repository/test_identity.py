"""What decides a model's results."""

import re
from pathlib import Path

from server.repository import identity


def test_the_versions_that_count_are_of_packages_that_are_installed_under_these_names() -> None:
    pinned = (Path(__file__).resolve().parents[3] / "constraints.txt").read_text()
    names = set(re.findall(r"^([\w-]+)==", pinned, re.MULTILINE))
    assert set(identity._LIBRARIES) <= names
