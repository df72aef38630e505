"""Which tests are run once more."""

from tests.again import ROOT, names_of


def test_names_are_without_the_groups_that_xdist_writes() -> None:
    grouped = f"tests/a/test_b.py::test_c[x@y]@{ROOT}/tests/a/test_b.py"
    assert names_of([grouped, "tests/test_d.py::test_e[1@2]", "tests/test_f.py"]) == [
        "tests/a/test_b.py::test_c[x@y]", "tests/test_d.py::test_e[1@2]", "tests/test_f.py",
    ]  # fmt: skip
