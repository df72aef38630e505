"""Log lines as people and machines get them."""

import io
import json
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from server.observability.context import RequestContext, current
from server.observability.logs import JsonLines, LimitedHandler, TextLines, configure

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def record(
    message: str, *values: object, fields: dict[str, object] | None = None, error: Exception | None = None
) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("server.app", logging.WARNING, __file__, 1, message, values, exc_info)
    if fields is not None:
        made.fields = fields
    return made


def text(made: logging.LogRecord) -> str:
    return TextLines().format(made)


def raised() -> Exception:
    try:
        raise ValueError("broken\nin two")
    except ValueError as error:
        return error


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield root
    logging.captureWarnings(False)
    root.handlers[:] = before
    root.setLevel(level)


def test_a_text_line_is_time_level_message_and_fields() -> None:
    line = text(record("served %d", 3, fields={"rpc": "Generate", "seconds": 0.012345678, "rows": 4}))
    assert re.fullmatch(TIME + r" WARNING served 3 rpc=Generate seconds=0\.0123457 rows=4", line)


def test_field_values_that_could_be_misread_are_quoted() -> None:
    fields: dict[str, object] = {"a": "two words", "b": 'say "x"', "c": "k=v", "d": "", "e": "new\nline", "f": "größe"}
    line = text(record("m", fields=fields))
    assert line.endswith(r"""m a="two words" b="say \"x\"" c="k=v" d="" e="new\nline" f=größe""")


def test_a_message_that_a_caller_broke_in_lines_stays_one_line() -> None:
    line = text(record("no model %s", "x\r\n2026-01-01 INFO forged\x1b[31m"))
    assert "\n" not in line
    assert r"x\r\n2026-01-01 INFO forged\x1b[31m" in line


def test_a_traceback_follows_the_line_that_has_an_error_id() -> None:
    first, *rest = text(record("failed", fields={"error_id": "7f3a"}, error=raised())).split("\n")
    assert first.endswith("failed error_id=7f3a")
    assert rest[0].startswith("Traceback")
    assert "ValueError: broken" in rest


def test_without_an_error_id_the_traceback_is_part_of_the_one_line() -> None:
    line = text(record("failed", error=raised()))
    assert "\n" not in line
    assert r"ValueError: broken\nin two" in line


def test_a_json_line_is_an_object_with_the_fields_beside_the_message() -> None:
    line = JsonLines().format(record("served %d", 3, fields={"rpc": "Generate", "rows": 4, "level": "forged"}))
    read = json.loads(line)
    assert re.fullmatch(TIME, read.pop("time"))
    assert read == {"level": "WARNING", "logger": "server.app", "message": "served 3", "rpc": "Generate", "rows": 4}


def test_a_json_line_holds_message_and_traceback_whatever_is_in_them() -> None:
    line = JsonLines().format(record("a\nb", fields={"error_id": "7f3a", "path": object}, error=raised()))
    assert "\n" not in line
    read = json.loads(line)
    assert read["message"] == "a\nb"
    assert read["traceback"].endswith("in two")


def test_a_record_without_fields_or_an_active_error_is_fine() -> None:
    made = record("m")
    made.exc_info = (None, None, None)
    assert text(made).endswith("WARNING m")


def test_configure_sets_level_and_stream_and_may_be_called_again(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("info", "json")
    configure("warning", "text")
    log = logging.getLogger("server.test")
    log.info("hidden")
    log.warning("shown", extra={"fields": {"n": 1}})
    root_logger.handlers[0].flush()
    seen = capsys.readouterr()
    assert seen.out == ""
    assert re.fullmatch(TIME + " WARNING shown n=1\n", seen.err)
    assert len(root_logger.handlers) == 1


def test_warnings_become_log_lines(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning", "json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old thing", stacklevel=1)
    root_logger.handlers[0].flush()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "old thing" in json.loads(lines[0])["message"]


HOSTILE = "a\x00\x1b[2J\x7f\x85\x9b31m\u202etxt.exe\u2066\u061c\u2028\udce9z"


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()])
def test_characters_that_control_a_terminal_or_the_order_of_reading_are_escaped_wherever_they_stand(
    formatter: logging.Formatter,
) -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        for fields in ({"model": HOSTILE}, {"model": HOSTILE + " quoted", "error_id": "7f3a"}):
            line = formatter.format(record("no model %s", HOSTILE, fields=dict(fields), error=error))
            assert all(character.isprintable() or character == "\n" for character in line)
            line.encode()
            assert "31m" in line, "what can be read is there"
            assert (r"\x9b31m" if type(formatter) is TextLines else r"\u009b31m") in line


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()])
def test_a_line_has_a_length_whatever_a_caller_sends(formatter: logging.Formatter) -> None:
    megabyte = "x" * (1 << 20)
    try:
        raise ValueError(megabyte)
    except ValueError as error:
        made = record("no %s", megabyte, fields={"model": megabyte, "error": megabyte, "error_id": "7f3a"}, error=error)
    line = formatter.format(made)
    assert len(line) < 24_000
    assert "... (1,048,576 characters)" in line


class Sink:
    """A handler whose lines can be read; `log` writes a record at a time in seconds."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.handler = LimitedHandler(self.stream)
        self.handler.setFormatter(JsonLines())

    def log(self, at: float, message: str, *values: object, level: int = logging.INFO, **more: Any) -> None:
        made = logging.LogRecord("server.api.calls", level, __file__, 1, message, values, None)
        made.__dict__ |= {"created": at, **more}
        self.handler.handle(made)

    @property
    def messages(self) -> list[str]:
        return [str(line["message"]) for line in self.lines]

    @property
    def lines(self) -> list[dict[str, Any]]:
        self.handler.flush()
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


def test_errors_that_repeat_are_counted_and_the_count_is_written() -> None:
    sink = Sink()
    for index in range(13_000):
        sink.log(1000 + index * 1e-4, "socket.accept() failed\nsocket %d", index, level=logging.ERROR)
    assert len(sink.messages) <= 20 + 2 * 2
    sink.log(1010, "model ready")
    assert sink.messages[-1] == "model ready", "another line is where a count is written that nobody waited for"
    counts = [
        int(found[1].replace(",", "")) for each in sink.messages if (found := re.search(r"and ([\d,]+) more", each))
    ]
    assert sum(counts) + sum("socket " in each for each in sink.messages) == 13_000


def test_what_is_counted_when_the_server_ends_is_written() -> None:
    sink = Sink()
    for _ in range(25):
        sink.log(1000, "call")
    sink.handler.close()
    assert sink.messages == ["call"] * 20 + ["call (and 5 more like this)"]


def test_lines_of_a_caller_are_one_kind_for_each_rpc_and_code_whatever_model_it_names() -> None:
    sink = Sink()
    request = RequestContext("s", "ModelInfer", object(), (("x-request-id", "mine"),))
    token = current.set(request)
    for index in range(100):
        sink.log(1000, "call", fields={"rpc": "ModelInfer", "code": "NOT_FOUND", "model": str(index)})
    sink.log(1000, "call", fields={"rpc": "ModelInfer", "code": "INVALID_ARGUMENT"})
    sink.log(1010, "call", fields={"rpc": "Upscale", "code": "NOT_FOUND"})
    current.reset(token)
    lines = sink.lines
    assert len(lines) == 20 + 1 + 1 + 1
    count = lines[-2]
    assert {name: count.get(name) for name in ("message", "rpc", "code", "model", "request_id")} == {
        "message": "call (and 80 more like this)", "rpc": "ModelInfer", "code": "NOT_FOUND", "model": None,
        "request_id": None,
    }  # fmt: skip


def test_each_model_of_the_repository_and_each_debug_line_is_written() -> None:
    sink = Sink()
    for index in range(200):
        sink.log(1000, "model unavailable", level=logging.ERROR, fields={"model": f"m{index}", "reason": "torn"})
        sink.log(1000, "call", level=logging.DEBUG)
        sink.log(1000, "control", unlimited=True)
    assert len(sink.messages) == 600


def test_a_pipe_that_nobody_reads_does_not_stop_whoever_logs() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as stream:
        handler = LimitedHandler(stream)
        for index in range(5000):  # 1 MB: far more than the pipe and the queue hold
            made = logging.LogRecord("x", logging.DEBUG, __file__, 1, f"{index} {'x' * 200}", (), None)
            handler.handle(made)
        seen: list[str] = []
        drain = threading.Thread(target=lambda: seen.extend(reader))
        drain.start()
        handler.handle(logging.LogRecord("x", logging.DEBUG, __file__, 1, "last", (), None))
        handler.close()
        stream.close()
        drain.join()
    dropped = [int(found[1].replace(",", "")) for line in seen if (found := re.search(r"\(([\d,]+) lines of", line))]
    lines = [line for line in seen if "lines of the log were dropped" not in line]
    assert dropped
    assert len(lines) + sum(dropped) == 5001
