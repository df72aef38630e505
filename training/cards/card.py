"""Model cards: one page of Markdown per trained generator, written by the recipe that trained it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Card:
    """What a card says. `facts` is a two-column table; `sections` are headings with Markdown below them.

    `picture` is the sample grid's file name beside the card, `caption` what it shows.
    """

    title: str
    summary: str
    picture: str
    caption: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[tuple[str, str]]

    def write(self, path: Path) -> None:
        """Writes the card as Markdown."""
        rows = "\n".join(f"| {name} | {value} |" for name, value in self.facts)
        sections = "".join(f"\n## {heading}\n\n{text}\n" for heading, text in self.sections)
        head = f"# {self.title}\n\n{self.summary}\n\n![{self.caption}]({self.picture})\n\n{self.caption}\n"
        path.write_text(f"{head}\n| | |\n|---|---|\n{rows}\n{sections}")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
