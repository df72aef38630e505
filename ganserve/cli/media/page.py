"""The page with before and after of what a command converted."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from ganserve.cli.media.image import Made
from ganserve.cli.media.plan import Conversion
from ganserve.cli.media.write import write
from ganserve.cli.output import CommandError
from ganserve.client.comparison import Comparison, Pair

MAX_PAIRS = 100  # both images of each lie in the page


@dataclass
class Page:
    """Collects pairs, from any thread, and writes them. Without a path it does nothing.

    Raises:
        CommandError: more pairs than a page holds, or a film.
    """

    path: Path | None
    total: int
    films: bool
    _pairs: dict[str, Pair] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.path is not None and self.total > MAX_PAIRS:
            raise CommandError(f"--compare: a page holds at most {MAX_PAIRS} pairs, got {self.total} inputs")
        if self.path is not None and self.films:
            raise CommandError("--compare: a page holds images, and there is a film among the inputs")

    def add(self, conversion: Conversion, made: Made) -> None:
        """Before and after of one input."""
        if self.path is None:
            return
        after = made.result
        caption = f"{conversion}: before, and after {after.model}: {after.width} x {after.height}"
        pair = Pair.of(made.before, after, caption)
        with self._lock:
            self._pairs[str(conversion)] = pair

    def write(self) -> None:
        """Writes the page, with the pairs sorted by name."""
        if self.path is not None and self._pairs:
            page = Comparison(tuple(pair for _, pair in sorted(self._pairs.items())))
            write(self.path, page.html.encode())
