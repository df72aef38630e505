"""The tables of what was found on a GPU, in Markdown."""

from collections.abc import Callable, Sequence

from bench.gpu.figures import SERVED_ROWS, Choice, Mixed, Parity, Rate, Rows, Served
from bench.report import markdown_table, number

OUT_OF_MEMORY = "out of memory"
GOALS = {64: 0.90, 1: 0.50}  # images a call -> share of the engine
SHARE_NOTE = (
    "Share of the engine: over the best that the engine alone does with transfers, whatever its batch up to "
    f"{SERVED_ROWS}. The caller is one Python thread on the same machine, or one for each of several servers. Limited "
    "by: the first of lane, caller and server that is busy 0.9 of the time; round trips: none of them is. A lane is "
    "busy too while it waits for the interpreter, so the GPU is named only where it is busy itself; the server's cores "
    "are those of all its threads together."
)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """One table."""
    return "\n".join(markdown_table(columns, rows))


def parity_part(rows: Sequence[Parity]) -> list[str]:
    if not rows:
        return []
    columns = ("subject", "engine", "precision", "pictures", "largest, levels", "mean, levels", "PSNR dB", "reference")
    cells = [
        (
            row.subject, row.engine, row.precision, str(row.rows), number(row.largest_levels, 0),
            number(row.mean_levels, 4), number(row.psnr_db, 1), row.reference,
        )
        for row in rows
    ]  # fmt: skip
    return ["## Parity in uint8 levels", table(columns, cells)]


def rate_parts(rates: Sequence[Rate], title: str, figure: Callable[[Rate], float | None], digits: int = 0) -> list[str]:
    """A table for each subject, batch sizes down and engines across; nothing where no row has the figure."""
    if not any(figure(row) is not None for row in rates):
        return []
    parts = [f"## {title}"]
    for subject in dict.fromkeys(row.subject for row in rates):
        found = {(row.batch, f"{row.engine} {row.precision}"): row for row in rates if row.subject == subject}
        batches = sorted({batch for batch, _ in found})
        engines = list(dict.fromkeys(engine for _, engine in found))
        cells = [
            [str(batch), *(_cell(found.get((batch, engine)), figure, digits) for engine in engines)]
            for batch in batches
        ]
        parts += [f"### {subject}", table(["batch", *engines], cells)]
    return parts


def _cell(row: Rate | None, figure: Callable[[Rate], float | None], digits: int) -> str:
    if row is None:
        return "-"
    value = figure(row)
    if value is not None:
        return number(value, digits if value >= 10 or digits else 1)
    return OUT_OF_MEMORY if row.missing == OUT_OF_MEMORY else "-"


def rows_part(rows: Sequence[Rows]) -> list[str]:
    """A row's bytes whatever else is in its batch."""
    if not rows:
        return []
    batches = sorted({batch for row in rows for batch in row.largest_levels})
    cells = [
        [row.subject, row.engine, row.precision]
        + [
            f"{row.largest_levels[batch]:.0f} ({100 * row.differing[batch]:.2f} %)" if batch in row.differing else "-"
            for batch in batches
        ]
        for row in rows
    ]
    title = "## Rows in batches beside the same rows alone: largest difference in levels (values that differ)"
    return [title, table(["subject", "engine", "precision", *(f"batch {batch}" for batch in batches)], cells)]


def served_part(rows: Sequence[Served], rates: Sequence[Rate]) -> list[str]:
    """What came through the server, and beside it what other ways to serve gave."""
    parts: list[str] = []
    for title, setups in (("Through the gRPC server, ModelInfer", False), ("Other ways to serve", True)):
        if shown := [row for row in rows if bool(row.setup) == setups]:
            parts += [f"## {title}", *([] if parts else [SHARE_NOTE]), _served_table(shown, rates)]
    return parts


def _served_table(rows: Sequence[Served], rates: Sequence[Rate]) -> str:
    columns = (
        "subject", "precision", "platform", "callers", "images/call", "images/s", "share of the engine", "p50 ms",
        "p99 ms", "mean batch", "errors", "GPU busy", "lane busy", "server cores", "caller cores", "limited by",
    )  # fmt: skip
    cells = [
        (
            row.subject, row.precision, row.setup or row.platform, str(row.callers), str(row.images_per_call),
            number(row.images_per_s, 0), _or_dash(engine_share(row, rates)), number(row.p50_s * 1e3),
            number(row.p99_s * 1e3), number(row.mean_batch), str(row.errors), _or_dash(row.gpu_busy),
            _or_dash(row.lane_busy), _or_dash(row.server_cores), _or_dash(row.caller_cores), row.limited_by,
        )
        for row in rows
    ]  # fmt: skip
    return table(columns, cells)


def goals_part(rows: Sequence[Served], rates: Sequence[Rate]) -> list[str]:
    """Of each model the best that was served, beside the goal for calls of that many images."""
    best: dict[tuple[str, str, str, int], tuple[float, Served]] = {}
    for row in rows:
        share = engine_share(row, rates)
        if share is None or row.setup or row.images_per_call not in GOALS:
            continue
        key = row.subject, row.precision, row.platform, row.images_per_call
        if key not in best or share > best[key][0]:
            best[key] = share, row
    if not best:
        return []
    cells = [
        [*key[:3], str(key[3]), str(row.callers), number(share), number(GOALS[key[3]])]
        + (["yes", "-"] if share >= GOALS[key[3]] else ["no", row.limited_by])
        for key, (share, row) in best.items()
    ]
    columns = (
        "subject",
        "precision",
        "platform",
        "images/call",
        "callers",
        "best share",
        "goal",
        "reached",
        "limited by",
    )
    return ["## Goals: served over the engine alone", table(columns, cells)]


def engine_share(row: Served, rates: Sequence[Rate]) -> float | None:
    """Served images/s over the best that the engine alone did from host memory to host memory, in batches as large as
    the server's at most; None where the engine was not measured in those."""
    engine = "TensorRT" if "tensorrt" in row.platform else "ONNX Runtime"
    alone = {
        rate.batch: rate.hosted
        for rate in rates
        if (rate.subject, rate.engine, rate.precision) == (row.subject, engine, row.precision)
        and rate.batch <= SERVED_ROWS
        and rate.hosted
    }
    return row.images_per_s / max(alone.values()) if SERVED_ROWS in alone else None


def _or_dash(value: float | None) -> str:
    return "-" if value is None else number(value)


def choices_part(choices: Sequence[Choice], mixed: Sequence[Mixed]) -> list[str]:
    parts = []
    if choices:
        batches = sorted({batch for row in choices for batch in row.milliseconds})
        columns = [
            "subject",
            "precision",
            "option",
            *(f"ms, batch {batch}" for batch in batches),
            "first run s",
            "levels",
        ]
        rows = [
            [
                row.subject, row.precision, row.change,
                *(number(row.milliseconds[batch], 3) if batch in row.milliseconds else "-" for batch in batches),
                number(max(row.first_s.values())) if row.first_s else "-",
                row.reason or _or_dash(row.row_levels),
            ]
            for row in choices
        ]  # fmt: skip
        parts += ["## ONNX Runtime's options, data on the device", table(columns, rows)]
    if mixed:
        rows = [
            [row.subject, row.precision, row.sessions, number(row.milliseconds, 3), str(row.memory_bytes >> 20)]
            for row in mixed
        ]
        title = "## Sessions, over batches that follow each other"
        parts += [title, table(["subject", "precision", "sessions", "ms a run", "GPU MiB"], rows)]
    return parts
