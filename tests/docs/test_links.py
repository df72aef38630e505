"""Every link inside the documentation leads to a file and a heading."""

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, anchors, links, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in links(page.read_text()):
        target = (page.parent / path) if path else page
        assert target.exists(), f"{path}#{anchor}"
        assert not anchor or anchor in anchors(target.read_text()), f"{path}#{anchor}"


def test_links_and_headings_are_found_at_all() -> None:
    assert sum(len(list(links(page.read_text()))) for page in pages()) > 60
    assert "what-to-do" in anchors("# Title\n\n## What to do?\n\n```sh\n# not a heading\n```\n")
    assert "not-a-heading" not in anchors("# Title\n\n```sh\n# not a heading\n```\n")
