"""What `make demo` runs: export the zoo, serve it, request images, report what they took."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out"


class DemoError(Exception):
    """A step failed; one line."""
