"""One line per log record on stderr: for people (`text`) or for programs (`json`).

Fields are passed next to the message: `log.info("served", extra={"fields": {"rpc": "Generate", "code": "OK"}})`. Every
line that is written for a request has its request_id, and trace_id and span_id if there are any.

Callers decide what some lines contain and how many there are. So each part of a line is cut to a length; characters
that break a line, control a terminal or reverse the reading order are escaped; and lines of one kind are counted
instead of written while they come faster than LINES_PER_S.
"""

import contextlib
import json
import logging
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Mapping
from contextvars import Context
from datetime import UTC, datetime
from typing import Literal, TextIO

from server.observability.context import current

MAX_MESSAGE_CHARS = 2000
MAX_FIELD_CHARS = 1000
MAX_TRACEBACK_CHARS = 16_000
# Lines of one kind that may come at once, and how many per second after that.
BURST_LINES = 20
LINES_PER_S = 1.0
# A kind is known by what the code says, not by what callers send, so there are few; other libraries' text may vary.
MAX_KINDS = 1000
# Lines that may wait for whoever reads stderr, and how long an end waits for them to be written.
MAX_WAITING_LINES = 1000
FLUSH_S = 1.0
KIND_CHARS = 60

_AMBIGUOUS = re.compile('[ "=]').search


def configure(level: str, format: Literal["text", "json"]) -> None:
    """Sends every record of at least `level` (debug, info, warning, error) to stderr; replaces what was set before."""
    sink = LimitedHandler(sys.stderr)
    sink.setFormatter(JsonLines() if format == "json" else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[sink], force=True)
    logging.captureWarnings(True)
    # What it warns of (a port that is taken) becomes our own one-line error.
    logging.getLogger("pygrpc_native").setLevel(logging.ERROR)


def change(level: str, format: Literal["text", "json"]) -> None:
    """Changes what `configure` set; the level may also be none."""
    root = logging.getLogger()
    root.setLevel(logging.CRITICAL + 1 if level == "none" else level.upper())
    for sink in root.handlers:
        if isinstance(sink, LimitedHandler):
            sink.setFormatter(JsonLines() if format == "json" else TextLines())


class _Writer:
    """Writes lines from a thread of its own: a pipe that nobody reads must not stop the server. What does not fit into
    the queue is counted and dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        try:
            self._descriptor: int | None = stream.fileno()
        except (OSError, ValueError):  # no file, as in tests
            self._descriptor = None
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_WAITING_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Never blocks."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Returns once what was put has been written, or after FLUSH_S."""
        ends_at = time.monotonic() + FLUSH_S
        with self._lines.all_tasks_done:
            while self._lines.unfinished_tasks and (left_s := ends_at - time.monotonic()) > 0:
                self._lines.all_tasks_done.wait(left_s)

    def close(self) -> None:
        """Writes what is left; gives up after FLUSH_S."""
        self.flush()
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(FLUSH_S)

    def _run(self) -> None:
        reported = 0
        while (line := self._lines.get()) is not None:
            so_far = self._dropped
            dropped, reported = so_far - reported, so_far
            if dropped:
                line += f"({dropped:,} lines of the log were dropped: nobody read stderr)\n"
            with contextlib.suppress(OSError, ValueError):  # closed by the reader, or by ourselves
                self._write(line)
            self._lines.task_done()

    def _write(self, text: str) -> None:
        """Past the stream's buffer: a write that blocks would keep its lock, which the interpreter's end needs."""
        if self._descriptor is None:
            self._stream.write(text)
            self._stream.flush()
            return
        data = text.encode(errors="backslashreplace")
        while data:
            data = data[os.write(self._descriptor, data) :]


class LimitedHandler(logging.Handler):
    """Writes to a stream, without ever waiting for its reader. Of lines of one kind that come faster than the limits
    allow, it writes how many there were.

    Not limited: lines at debug level, and records with `extra={"unlimited": True}`.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._writer = _Writer(stream)
        self._kinds: dict[tuple[object, ...], _Kind] = {}
        self._counting: set[_Kind] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record or counts it. The lock is held."""
        kind = self._kind_of(record)
        for other in [each for each in self._counting if each is not kind and each.take(record.created)]:
            self._write_count(other)
        if kind is None:
            self._write(record)
        elif kind.take(record.created):
            self._write_count(kind)
            self._write(record)
        else:
            kind.counted += 1
            self._counting.add(kind)

    def close(self) -> None:
        """Writes what is still counted."""
        self.acquire()
        try:
            for kind in list(self._counting):
                self._write_count(kind)
        finally:
            self.release()
        self._writer.close()
        super().close()

    def flush(self) -> None:
        """Returns once what was logged has been written."""
        self._writer.flush()

    def _write(self, record: logging.LogRecord) -> None:
        try:
            self._writer.put(self.format(record) + "\n")
        except Exception:
            self.handleError(record)

    def _kind_of(self, record: logging.LogRecord) -> "_Kind | None":
        """None: not limited."""
        if record.levelno <= logging.DEBUG or getattr(record, "unlimited", False):
            return None
        fields: Mapping[str, object] = getattr(record, "fields", {})
        # A caller writes what it likes into the field `model`; outside a request it is a model of the repository.
        names = ("rpc", "code") if current.get() is not None else ("rpc", "code", "model")
        known = {name: fields[name] for name in names if name in fields}
        head = str(record.msg).partition("\n")[0][:KIND_CHARS]
        key = (record.name, record.levelno, head, *known.values())
        found = self._kinds.get(key)
        if found is None:
            if len(self._kinds) >= MAX_KINDS:
                self._kinds.clear()
            found = self._kinds[key] = _Kind(record, head, known)
        return found

    def _write_count(self, kind: "_Kind") -> None:
        self._counting.discard(kind)
        if kind.counted:
            record = kind.count_record()
            Context().run(self._write, record)  # not with the ids of whichever request is at work now


class _Kind:
    """Lines that differ only in what callers sent. A bucket of lines that may be written, full at first."""

    def __init__(self, first: logging.LogRecord, head: str, fields: Mapping[str, object]) -> None:
        self._name, self._level, self._head, self._fields = first.name, first.levelno, head, fields
        self._left = float(BURST_LINES)
        self._at = first.created
        self.counted = 0

    def take(self, now: float) -> bool:
        """Whether a line may be written at `now`, in seconds."""
        self._left = min(float(BURST_LINES), self._left + max(0.0, now - self._at) * LINES_PER_S)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def count_record(self) -> logging.LogRecord:
        """`MESSAGE (and 12,999 more like this)` with the fields that all had."""
        text, self.counted = f"{self._head} (and {self.counted:,} more like this)", 0
        record = logging.LogRecord(self._name, self._level, __file__, 0, text, None, None)
        record.fields = dict(self._fields)
        return record


class TextLines(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO message key=value ...`.

    A traceback follows on its own lines if the fields have an `error_id`, by which a caller's report is found.
    Otherwise it is one quoted field, so that every record is one line.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields = dict(_fields(record))
        traceback = self._traceback(record)
        below = traceback if "error_id" in fields else ""
        words = [f"{name}={_word(value)}" for name, value in fields.items()]
        if traceback and not below:
            words.append(f"traceback={_quote(traceback)}")
        line = " ".join((_time(record), record.levelname, _escape(_message(record)), *words))
        return "\n".join((line, *map(_escape, below.split("\n")))) if below else line

    def _traceback(self, record: logging.LogRecord) -> str:
        """Its beginning and its end, with the error that was raised, if it is long."""
        if not record.exc_info or not record.exc_info[0]:
            return ""
        text, half = self.formatException(record.exc_info), MAX_TRACEBACK_CHARS // 2
        return text if len(text) <= 2 * half else f"{text[:half]}\n... ({len(text):,} characters)\n{text[-half:]}"


class JsonLines(TextLines):
    """An object a line: time, level, logger, message, traceback if any, then the fields (which never replace those)."""

    def format(self, record: logging.LogRecord) -> str:
        own: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        traceback = self._traceback(record)
        if traceback:
            own["traceback"] = traceback
        own |= {name: _json_value(value) for name, value in _fields(record).items() if name not in own}
        return json.dumps(own).replace("\x7f", r"\u007f")  # json escapes every other control character itself


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    """The fields of the request in whose task the record is formatted, and the record's own, which override them."""
    fields: Mapping[str, object] = getattr(record, "fields", {})
    request = current.get()
    return fields if request is None else {**dict(request.log_fields()), **fields}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    return _cut(record.getMessage(), MAX_MESSAGE_CHARS)


def _json_value(value: object) -> object:
    return value if isinstance(value, int | float | None) else _cut(str(value), MAX_FIELD_CHARS)


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = _cut(str(value), MAX_FIELD_CHARS)
    plain = text.isprintable() and text and not _AMBIGUOUS(text)
    return text if plain else _quote(text)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text):,} characters)"


def _quote(text: str) -> str:
    return _escape(json.dumps(text, ensure_ascii=False))


def _escape(text: str) -> str:
    """Without control characters (C1 too), line ends, marks of the reading order, or what cannot be encoded."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
