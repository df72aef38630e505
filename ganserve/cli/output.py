"""What the subcommands print: results on stdout, progress on stderr, and errors as one line."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from ganserve.client.errors import ServerError

OURS = ("artifact", "export", "ganserve", "models", "server")


class CommandError(Exception):
    """The command failed; the message is the one line that is shown."""


def sentence(error: Exception) -> str:
    """One line for people, whatever was raised."""
    if hasattr(error, "format_message"):  # the option parser's own
        text = error.format_message()
    elif isinstance(error, (CommandError, ServerError, ValueError)):
        text = str(error)
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = f"{type(error).__name__}: {error} (`ganserve --traceback ...` shows where)"
    return " ".join(str(text).split())


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Turns the import error of a dependency into the line that says which extra installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OURS:
            raise
        raise CommandError(f"this needs: pip install 'ganserve[{extra}]'  (no module named {error.name})") from None


def print_json(value: object) -> None:
    """One JSON document on stdout, for scripts."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout: with borders on a terminal, plain aligned columns in a pipe."""
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


class Steps(Protocol):
    """Shows the current step and, during a long one, the share that is done (0..1). From any thread."""

    def __call__(self, text: str, share: float | None = None, /) -> None:
        """Shows it."""


@contextmanager
def steps() -> Iterator[Steps]:
    """A function that shows the current step: a spinner on a terminal, with a bar if the step reports its share.

    Elsewhere one line on stderr for each step, and for every further quarter of a long one.
    """
    if not sys.stderr.isatty():
        yield _in_lines()
        return
    from rich.console import Console
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    with Console(stderr=True).status("") as status:

        def show(text: str, share: float | None = None, /) -> None:
            if share is None:
                status.update(_escaped(text))
                return
            row = Table.grid(padding=(0, 1))
            row.add_row(ProgressBar(total=1.0, completed=share, width=30), f"{share:4.0%}", _escaped(text))
            status.update(row)

        yield show


def _in_lines() -> Steps:
    shown = 0  # quarters of the running step

    def show(text: str, share: float | None = None, /) -> None:
        nonlocal shown
        quarters = 0 if share is None else int(share * 4)
        if share is None:
            print(text, file=sys.stderr, flush=True)
        elif quarters > shown:
            print(f"{quarters * 25} % {text}", file=sys.stderr, flush=True)
        shown = quarters

    return show


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


@contextmanager
def tiles_done(shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A function that shows how many tiles of an image are done of how many, with the time left: a bar on a terminal;
    None elsewhere, or if it is not `shown`."""
    if not (shown and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("tiles"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("tiles", total=None)
        yield lambda done, tiles: progress.update(task, completed=done, total=tiles)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
