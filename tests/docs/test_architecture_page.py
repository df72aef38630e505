"""docs/architecture.md names files and classes that exist."""

import re

from tests.docs.pages import ROOT, first_cells, read, section


def test_every_file_of_the_page_exists() -> None:
    named = set(re.findall(r"`([a-z_0-9]+(?:/[a-z_0-9]+)*(?:/|\.py))`", read("architecture.md")))
    assert len(named) > 40
    folders = (ROOT, ROOT / "server")  # the way of a request is told inside server/
    assert {name for name in named if not any((folder / name).exists() for folder in folders)} == set()


def test_every_top_level_package_is_in_the_map() -> None:
    mapped = {name.split("/")[0] for cell in first_cells(section("architecture.md", "Modules")) for name in [cell[2:]]}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages <= mapped


def test_the_ranks_of_the_page_are_those_that_the_test_holds() -> None:
    from tests.test_architecture import RANK

    text = section("architecture.md", "Modules").split("A file imports", maxsplit=1)[0]
    assert re.findall(r"`(\w+)`", text) == RANK


def test_the_owners_in_batching_are_where_the_page_says() -> None:
    for cells in re.findall(r"^\| (`.+?) \| `(batching/\w+\.py)` ", read("architecture.md"), re.MULTILINE):
        code = (ROOT / "server" / cells[1]).read_text()
        for name in re.findall(r"`(\w+)`", cells[0]):
            assert re.search(rf"^(class|def) {name}\b", code, re.MULTILINE), name
