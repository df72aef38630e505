"""What the subcommands print: results on stdout, progress on stderr, and errors as one line."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

MODULES_OF = {
    "export": ("torch", "onnx", "onnxscript", "onnxruntime", "safetensors"),
    "cpu": ("onnxruntime", "pydantic", "pydantic_settings", "prometheus_client", "grpc_health", "grpc_reflection"),
}


class CommandError(Exception):
    """The command cannot be carried out; the message is the one line that is shown."""


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Turns the import error of a package that `extra` installs into the line that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in MODULES_OF[extra]:
            raise
        raise CommandError(f"this needs: pip install 'ganserve[{extra}]'  (no module named {error.name})") from None


def print_json(value: object) -> None:
    """One JSON document on stdout, for scripts."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout: drawn on a terminal, plain aligned columns in a pipe."""
    cells = [[str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Column, Table

        table = Table(*(Column(header, overflow="fold") for header in headers))
        for row in cells:
            table.add_row(*(_escaped(cell) for cell in row))
        Console().print(table)
        return
    widths = [max(len(line[column]) for line in [list(headers), *cells]) for column in range(len(headers))]
    for line in [list(headers), *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """A function that shows what is being done: a spinner on a terminal, else one line on stderr for each step."""
    if not sys.stderr.isatty():
        yield lambda text: print(text, file=sys.stderr, flush=True)
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(_escaped(text))


@contextmanager
def counted(total: int, what: str) -> Iterator[Callable[[], None]]:
    """A function to call when one more of `total` is done: a bar on a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
