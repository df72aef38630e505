"""Runs once more, one after the other, the tests that failed in the last run: what `make test` does with them.

pytest's own --last-failed does not find them: pytest-xdist writes the group of a test behind its name.
"""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def names_of(written: list[str]) -> list[str]:
    """The tests' names without their groups, which begin with the paths of their files."""
    return [name.partition(f"@{ROOT / name.partition('::')[0]}")[0] for name in written]


def main() -> int:
    """The exit code of the second run; 1 if the first failed without a test that did."""
    cache = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"
    names = names_of(sorted(json.loads(cache.read_text()))) if cache.is_file() else []
    if not names:
        print("no test is known to have failed")
        return 1
    print(f"once more, one after the other: {len(names)} tests that failed")
    return int(pytest.main(["-p", "no:xdist", *names]))


if __name__ == "__main__":
    sys.exit(main())
