"""Diagrams of lines over time, many on one sheet, drawn with Pillow: title, axes, limits, legend."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

FINER = 3  # drawn so many times as large, then made small: smooth lines
PAPER, INK, GREY, GRID, LIMIT = "#ffffff", "#222222", "#777777", "#e4e4e4", "#c0392b"
# Okabe and Ito's colours, which the colour-blind can tell apart, darker where they are too light for a line.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c7a00", "#555555")
TITLE_PX, TEXT_PX, HEADING_PX = 14, 11, 17
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 54, 12, 28, 20  # around the plot; the legend is beneath
LEGEND_PX = 15

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """(seconds since the beginning, value) in the order of time; NaN and gaps interrupt it."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Chart:
    """`limits`: where dashed lines are drawn; `most`: the axis' end, else the largest value decides."""

    title: str
    unit: str
    lines: Sequence[Line]
    limits: Sequence[float] = ()
    most: float | None = None


@dataclass(frozen=True)
class Sheet:
    """What all charts share. `width` of the sheet and `height` of a chart in px; `step_s` lies between two points."""

    seconds: float
    step_s: float
    width: int = 1560
    height: int = 220


def _bytes(value: float) -> str:
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


# Grafana's units.
UNITS: dict[str, Callable[[float], str]] = {
    "short": _short,
    "reqps": lambda value: f"{_short(value)}/s",
    "s": _seconds,
    "percentunit": lambda value: f"{value * 100:.3g} %",
    "bytes": _bytes,
    "watt": lambda value: f"{value:.3g} W",
}


def ticks(most: float) -> list[float]:
    """Three to six round numbers from 0 on, the last not below `most`, which is above 0."""
    rough = most / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * times for times in (1, 2, 2.5, 5, 10) if size * times >= rough * 0.999)
    return [step * count for count in range(math.ceil(most / step - 1e-9) + 1)]


def draw_sheet(heading: str, rows: Sequence[tuple[str, Sequence[Chart]]], sheet: Sheet) -> Image.Image:
    """The charts, RGB, beneath the headings of their rows.

    Raises:
        ValueError: no chart.
    """
    if not any(charts for _, charts in rows):
        raise ValueError("a sheet needs at least one chart")
    height = 3 * HEADING_PX
    places: list[_Place] = []
    headings: list[tuple[int, str]] = []
    for title, charts in rows:
        headings.append((height, title))
        height += 2 * HEADING_PX
        columns = 4 if len(charts) % 3 else 3
        width = sheet.width // columns
        for start in range(0, len(charts), columns):
            shown = charts[start : start + columns]
            places += [_Place(column * width, height, width, chart) for column, chart in enumerate(shown)]
            height += sheet.height + LEGEND_PX * max(len(place.legend) + 1 for place in places[-len(shown) :])
    image = Image.new("RGB", (sheet.width * FINER, (height + HEADING_PX) * FINER), PAPER)
    pen = _Pen(image, sheet)
    pen.text(LEFT_PX // 2, HEADING_PX, heading, INK, HEADING_PX)
    for top, title in headings:
        pen.text(LEFT_PX // 2, top + HEADING_PX // 2, title, INK, HEADING_PX)
        pen.line(
            [(LEFT_PX // 2, top + 2 * HEADING_PX - 6), (sheet.width - RIGHT_PX, top + 2 * HEADING_PX - 6)], GREY, 1
        )
    for place in places:
        pen.chart(place)
    return image.resize((sheet.width, height + HEADING_PX), Image.Resampling.LANCZOS)


def _length(text: str, size_px: int) -> float:
    return ImageFont.load_default(size_px).getlength(text)


@dataclass(frozen=True)
class _Place:
    """Where a chart is drawn."""

    left: int
    top: int
    width: int
    chart: Chart

    @property
    def legend(self) -> list[list[int]]:
        """The lines' numbers, row by row."""
        rows: list[list[int]] = [[]]
        used = 0.0
        for number, line in enumerate(self.chart.lines):
            wide = _length(line.name, TEXT_PX) + 26
            if rows[-1] and used + wide > self.width - LEFT_PX - RIGHT_PX:
                rows.append([])
                used = 0.0
            rows[-1].append(number)
            used += wide
        return rows


class _Pen:
    """Draws in the sheet's px, whatever FINER is."""

    def __init__(self, image: Image.Image, sheet: Sheet) -> None:
        self._draw = ImageDraw.Draw(image)
        self._sheet = sheet

    def line(self, points: Sequence[Point], colour: str, width_px: float) -> None:
        scaled = [(x * FINER, y * FINER) for x, y in points]
        self._draw.line(scaled, colour, round(width_px * FINER), joint="curve")

    def text(self, x: float, y: float, text: str, colour: str, size_px: int, anchor: str = "la") -> None:
        self._draw.text((x * FINER, y * FINER), text, colour, ImageFont.load_default(size_px * FINER), anchor)

    def chart(self, place: _Place) -> None:
        """Title, axes, limits, lines and legend."""
        left, top, chart = place.left, place.top, place.chart
        x0, x1 = left + LEFT_PX, left + place.width - RIGHT_PX
        y0, y1 = top + self._sheet.height - BOTTOM_PX, top + TOP_PX
        values = [value for line in chart.lines for _, value in line.points if math.isfinite(value)]
        largest = max(values, default=0.0) or 2 * max(chart.limits, default=0.5)
        marks = ticks(chart.most if chart.most is not None else largest)

        def at(seconds: float, value: float) -> Point:
            return x0 + (x1 - x0) * seconds / self._sheet.seconds, y0 + (y1 - y0) * value / marks[-1]

        self.text(left + LEFT_PX // 2, top + 4, chart.title, INK, TITLE_PX)
        for mark in marks:
            self.line([at(0, mark), at(self._sheet.seconds, mark)], GRID, 1)
            self.text(x0 - 5, at(0, mark)[1], UNITS[chart.unit](mark), GREY, TEXT_PX, "rm")
        minutes = int(self._sheet.seconds // 60)
        for minute in range(minutes + 1):
            x, y = at(60 * minute, 0)
            self.line([(x, y0), (x, y0 + 4)], GREY, 1)
            self.text(x, y + 6, f"{minute} min", GREY, TEXT_PX, "ma")
        self.line([(x0, y0), (x1, y0)], GREY, 1)
        for limit in chart.limits:
            if limit <= marks[-1]:
                self._dashed(at(0, limit), at(self._sheet.seconds, limit))
        for number, line in reversed(list(enumerate(chart.lines))):
            for piece in pieces(line.points, self._sheet.step_s):
                self._piece([at(*point) for point in piece], COLOURS[number % len(COLOURS)])
        self._write_legend(x0, y0 + 24, place)

    def _piece(self, points: list[Point], colour: str) -> None:
        if len(points) == 1:  # nothing to connect it with
            points = [points[0], (points[0][0] + 1.5, points[0][1])]
        self.line(points, colour, 1.6)

    def _dashed(self, start: Point, end: Point) -> None:
        x, y = start
        while x < end[0]:
            self.line([(x, y), (min(x + 6, end[0]), y)], LIMIT, 1)
            x += 10

    def _write_legend(self, left: float, top: float, place: _Place) -> None:
        chart = place.chart
        if not chart.lines:
            self.text(left, top, "no data", GREY, TEXT_PX)
        for row, numbers in enumerate(place.legend):
            x, y = left, top + row * LEGEND_PX
            for number in numbers:
                name = chart.lines[number].name
                self.line([(x, y + 7), (x + 12, y + 7)], COLOURS[number % len(COLOURS)], 3)
                self.text(x + 16, y, name, INK, TEXT_PX)
                x += _length(name, TEXT_PX) + 26


def pieces(points: Sequence[Point], step_s: float) -> list[list[Point]]:
    """The line, cut where a value is missing or no number."""
    found: list[list[Point]] = []
    before = -math.inf
    for at, value in points:
        if math.isfinite(value):
            if at - before > 1.5 * step_s:
                found.append([])
            found[-1].append((at, value))
            before = at
    return found
