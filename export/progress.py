"""How export says what it is doing."""

from typing import Protocol


class Progress(Protocol):
    """Called with a line for each step; while a long one runs, also with the share of it that is done (0..1)."""

    def __call__(self, line: str, share: float | None = None, /) -> None:
        """Shows it; may be called from another thread than the export's."""


def silent(line: str, share: float | None = None, /) -> None:
    """Shows nothing."""
