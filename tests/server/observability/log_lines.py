"""What the server logs, as lines."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from server.observability.logs import JsonLines, TextLines

ROOT = Path(__file__).resolve().parents[3]
SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "log.schema.json").read_text())
LINE = Draft202012Validator(SCHEMA)


class Lines:
    """Everything since it was made, as `--log-level debug` and either `--log-format` write it."""

    def __init__(self) -> None:
        self._json, self._text = io.StringIO(), io.StringIO()
        self.handlers = [logging.StreamHandler(self._json), logging.StreamHandler(self._text)]
        for handler, lines in zip(self.handlers, (JsonLines(), TextLines()), strict=True):
            handler.setFormatter(lines)

    def read(self, message: str) -> list[dict[str, Any]]:
        """The JSON lines of one message; all that there are are as docs/log.schema.json says."""
        lines = [json.loads(line) for line in self._json.getvalue().splitlines()]
        for line in lines:
            LINE.validate(line)
        return [line for line in lines if line["message"] == message]

    @property
    def text(self) -> list[str]:
        return self._text.getvalue().splitlines()


@contextmanager
def keeping_lines() -> Iterator[Lines]:
    """The lines of the server in this process, meanwhile."""
    kept = Lines()
    log = logging.getLogger("server")
    before = log.level
    log.setLevel(logging.DEBUG)
    for handler in kept.handlers:
        log.addHandler(handler)
    try:
        yield kept
    finally:
        for handler in kept.handlers:
            log.removeHandler(handler)
        log.setLevel(before)
