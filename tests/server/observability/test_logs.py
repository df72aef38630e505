"""Log lines as people and machines get them."""

import json
import logging
import re
import warnings
from collections.abc import Iterator

import pytest

from server.observability.logs import JsonLines, TextLines, configure

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
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "old thing" in json.loads(lines[0])["message"]
