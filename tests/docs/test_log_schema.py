"""docs/log.schema.json has every field that the server's code writes; the lines of all tests are held against it."""

import ast
import json
from collections.abc import Iterator

import pytest
from jsonschema import Draft202012Validator, ValidationError

from tests.docs.pages import ROOT, read
from tests.server.observability.log_lines import LINE, SCHEMA

# Parameters of a request, named in a line about them.
OF_REQUESTS = ROOT / "server" / "api" / "latent_request.py"


def fields_of(tree: ast.AST) -> Iterator[str]:
    """The keys of each dict that is `fields`: a log record's, or on its way to be."""
    for node in ast.walk(tree):
        found: list[ast.expr | None] = []
        if isinstance(node, ast.Dict):
            names = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
            found = [value for name, value in zip(names, node.values, strict=True) if name == "fields"]
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "fields":
            found = [node.value]
        for each in found:
            if isinstance(each, ast.Dict):
                yield from (str(key.value) for key in each.keys if isinstance(key, ast.Constant))


def test_every_field_that_the_code_writes_is_in_the_schema() -> None:
    files = [path for path in (ROOT / "server").rglob("*.py") if path != OF_REQUESTS]
    written = {name for path in files for name in fields_of(ast.parse(path.read_text()))}
    assert {"rpc", "code", "error_id", "reason"} <= written
    assert written <= set(SCHEMA["properties"])


def test_it_is_a_schema_that_finds_what_is_no_line() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    line = {"time": "2026-01-31T12:00:00.000Z", "level": "INFO", "logger": "server.api.calls", "message": "call"}
    LINE.validate({**line, "rpc": "Generate", "seconds": 0.1, "what_else": 7})
    wrong: list[dict[str, object]] = [{"time": "now"}, {"level": "LOUD"}, {"seconds": "0.1"}, {"what_else": [1]}]
    for change in wrong:
        with pytest.raises(ValidationError):
            LINE.validate({**line, **change})
    with pytest.raises(ValidationError):
        LINE.validate({key: value for key, value in line.items() if key != "message"})


def test_the_page_leads_to_it() -> None:
    assert "(log.schema.json)" in read("metrics.md")
    assert json.loads(read("log.schema.json")) == SCHEMA
