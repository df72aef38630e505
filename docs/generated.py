"""Pages that are made from the code."""

from pathlib import Path


def write(page: Path, text: str, arguments: list[str]) -> int:
    """Writes the page, or with `--check` returns 1 if it is not current."""
    if arguments == ["--check"]:
        return int(page.read_text() != text)
    page.write_text(text)
    return 0
