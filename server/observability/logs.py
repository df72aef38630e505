"""One line per log record on stderr: for people (`text`) or for programs (`json`).

Fields are passed next to the message: `log.info("served", extra={"fields": {"rpc": "Generate", "code": "OK"}})`. Every
line that is written for a request has its request_id, and trace_id and span_id if there are any.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from server.observability.context import current

_AMBIGUOUS = re.compile('[ "=]').search


def configure(level: str, format: Literal["text", "json"]) -> None:
    """Sends every record of at least `level` (debug, info, warning, error) to stderr; replaces what was set before."""
    sink = logging.StreamHandler(sys.stderr)
    sink.setFormatter(JsonLines() if format == "json" else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[sink], force=True)
    logging.captureWarnings(True)
    # What it warns of (a port that is taken) becomes our own one-line error.
    logging.getLogger("pygrpc_native").setLevel(logging.ERROR)


class TextLines(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO message key=value ...`.

    A traceback follows on its own lines if the fields have an `error_id`, by which a caller's report is found.
    Otherwise it is one quoted field, so that every record is one line.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields = dict(_fields(record))
        traceback = self._traceback(record)
        below = traceback if "error_id" in fields else ""
        if traceback and not below:
            fields["traceback"] = traceback
        words = (f"{name}={_word(value)}" for name, value in fields.items())
        line = " ".join((_time(record), record.levelname, _one_line(record.getMessage()), *words))
        return f"{line}\n{below}" if below else line

    def _traceback(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""


class JsonLines(TextLines):
    """An object a line: time, level, logger, message, traceback if any, then the fields (which never replace those)."""

    def format(self, record: logging.LogRecord) -> str:
        own: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        traceback = self._traceback(record)
        if traceback:
            own["traceback"] = traceback
        own |= {name: value for name, value in _fields(record).items() if name not in own}
        return json.dumps(own, default=str)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    """The fields of the request in whose task the record is formatted, and the record's own, which override them."""
    fields: Mapping[str, object] = getattr(record, "fields", {})
    request = current.get()
    return fields if request is None else {**dict(request.log_fields()), **fields}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    plain = text.isprintable() and text and not _AMBIGUOUS(text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
