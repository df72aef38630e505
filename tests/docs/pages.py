"""The documentation's pages, and what a test reads of them."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def pages() -> list[Path]:
    """Every Markdown file of the project."""
    return [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "k8s" / "README.md"]


def read(page: str) -> str:
    """Text of docs/`page`."""
    return (ROOT / "docs" / page).read_text()


def section(page: str, title: str) -> str:
    """From the heading `title` of docs/`page` to the next of its level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", read(page), re.DOTALL | re.MULTILINE)
    assert found is not None, f"{page}: {title}"
    return found[1]


def first_cells(text: str) -> list[str]:
    """The first cell of each table row that begins with a code span."""
    return [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]


def anchors(text: str) -> set[str]:
    """What a link may name after `#`: the headings as GitHub writes them."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def links(text: str) -> Iterator[tuple[str, str]]:
    """Path and anchor of every link to a place inside the project."""
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"\w+:", link):
            path, _, anchor = link.partition("#")
            yield path, anchor
