"""The dashboard's panels over one run, on one sheet, drawn with matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, FuncFormatter, PercentFormatter

COLUMNS = 4
PANEL_INCHES = (4.6, 2.9)
DPI = 85

# Grafana's units.
UNITS: dict[str, Formatter] = {
    "short": EngFormatter(sep=""),
    "reqps": EngFormatter("/s", sep=""),
    "s": EngFormatter("s"),
    "percentunit": PercentFormatter(1.0),
    "bytes": EngFormatter("B"),
    "Bps": EngFormatter("B/s"),
    "watt": FuncFormatter(lambda value, _: f"{value:.0f} W"),
}


@dataclass(frozen=True)
class Line:
    """(seconds since the beginning, value) in the order of time; NaN interrupts it."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """One panel. `limits`: where dashed lines are drawn; `max`: the axis' end, else the values decide."""

    title: str
    unit: str
    lines: Sequence[Line]
    limits: Sequence[float] = ()
    max: float | None = None


def draw_sheet(heading: str, rows: Sequence[tuple[str, Sequence[Chart]]]) -> Figure:
    """The charts below the headings of the dashboard's rows, four next to each other.

    Raises:
        ValueError: no chart.
    """
    bands = [
        (title if start == 0 else "", charts[start : start + COLUMNS])
        for title, charts in rows
        for start in range(0, len(charts), COLUMNS)
    ]
    if not bands:
        raise ValueError("a sheet needs at least one chart")
    figure = Figure(figsize=(COLUMNS * PANEL_INCHES[0], len(bands) * PANEL_INCHES[1]), dpi=DPI, layout="constrained")
    figure.suptitle(heading, x=0.01, ha="left", size="x-large", weight="bold")
    for band, (title, charts) in zip(figure.subfigures(len(bands), squeeze=False)[:, 0], bands, strict=True):
        band.suptitle(title, x=0.01, ha="left", weight="bold")
        axes = band.subplots(1, COLUMNS)
        for place, chart in zip(axes, charts, strict=False):
            _draw(place, chart)
        for place in axes[len(charts) :]:
            place.set_axis_off()
    return figure


def _draw(plot: Any, chart: Chart) -> None:
    for line in chart.lines:
        plot.plot(*zip(*((at / 60, value) for at, value in line.points), strict=True), label=line.name, linewidth=1.2)
    plot.set_title(chart.title, size="medium", loc="left")
    largest = max((value for line in chart.lines for _, value in line.points if isfinite(value)), default=0.0)
    top = 1.04 * max(chart.max or 0.0, largest) or 2 * max(chart.limits, default=0.5)
    plot.set_ylim(bottom=0, top=top)
    for limit in chart.limits:
        if limit <= top:
            plot.axhline(limit, color="firebrick", linestyle="--", linewidth=0.8)
    plot.yaxis.set_major_formatter(UNITS[chart.unit])
    plot.xaxis.set_major_formatter(lambda minutes, _: f"{minutes:g} min")
    plot.grid(alpha=0.3)
    plot.tick_params(labelsize="small")
    plot.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(-0.02, -0.12), ncols=3, frameon=False)
