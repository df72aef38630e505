"""How results are shown: a table for people, JSON with the machine's facts for everything else."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.files import write_whole
from bench.machine import facts

FILE_WIDTH = 140  # columns if the output is no terminal


def number(value: float, digits: int = 2) -> str:
    """`value` with that many decimals, a dash if there is none."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def milliseconds(value_s: float) -> str:
    """Seconds shown as milliseconds."""
    return number(value_s * 1e3)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints one table, numbers to the right."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    console = Console()
    Console(width=None if console.is_terminal else FILE_WIDTH).print(table)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown, all columns but the first to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _without_nan(value: object) -> object:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value


def write_json(path: Path, results: dict[str, object]) -> None:
    """Writes the results with the machine's facts; a figure that was not measured is null."""
    write_whole(path, json.dumps(_without_nan({"machine": facts(), **results}), indent=2) + "\n")
