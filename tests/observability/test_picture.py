"""Diagrams: lines where their values are, gaps where values are missing, axes with round ends."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor

from bench.chart import COLOURS, LIMIT, UNITS, Chart, Line, Sheet, draw_sheet, pieces, ticks

SHEET = Sheet(seconds=120, step_s=1)


def drawn(image: Image.Image, colour: str, near: int = 60) -> set[tuple[int, int]]:
    """(row, column) of each pixel of about this colour."""
    levels = np.asarray(image, dtype=np.int64)
    far = np.abs(levels - np.array(ImageColor.getrgb(colour))).sum(axis=2)
    return {(int(row), int(column)) for row, column in np.argwhere(far < near)}


def chart(*values: float, **fields: object) -> Chart:
    """One line of a value a second."""
    return Chart("a title", "s", [Line("faces", list(enumerate(values)))], **fields)  # type: ignore[arg-type]


def sheet(*charts: Chart) -> Image.Image:
    return draw_sheet("a heading", [("a row", charts)], SHEET)


def plot(chart: Chart) -> set[tuple[int, int]]:
    """The pixels of the first line, without its sample in the legend."""
    pixels = drawn(sheet(chart), COLOURS[0])
    legend = max((row for row, _ in pixels), default=0)
    return {(row, column) for row, column in pixels if row < legend - 10}


@given(st.floats(1e-9, 1e15))
def test_an_axis_begins_at_0_and_ends_round_at_or_above_the_largest_value(most: float) -> None:
    marks = ticks(most)
    assert marks[0] == 0
    assert 3 <= len(marks) <= 7
    assert most <= marks[-1] * (1 + 1e-9)
    assert marks[-1] <= 2 * most
    steps = [b - a for a, b in itertools.pairwise(marks)]
    assert steps == pytest.approx([steps[0]] * len(steps))


def test_a_line_is_cut_where_a_value_is_missing_or_no_number() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, math.nan), (3.0, 3.0), (4.0, 4.0), (9.0, 5.0)]
    assert pieces(points, step_s=1) == [[(0, 1), (1, 2)], [(3, 3), (4, 4)], [(9, 5)]]


def test_twice_the_value_is_drawn_twice_as_high() -> None:
    zero, low, high = (min(row for row, _ in plot(chart(*[value] * 120, most=1.0))) for value in (0.0, 0.4, 0.8))
    assert zero - high == pytest.approx(2 * (zero - low), abs=2)


def test_a_line_runs_over_the_time_that_it_has_values_for() -> None:
    whole = {column for _, column in plot(chart(*[0.5] * 121, most=1.0))}
    half = {column for _, column in plot(chart(*[0.5] * 61, most=1.0))}
    assert min(whole) == min(half)
    assert max(half) - min(half) == pytest.approx((max(whole) - min(whole)) / 2, abs=3)
    assert plot(chart(*[math.nan] * 121)) == set()


def test_a_limit_is_drawn_where_the_axis_has_it() -> None:
    assert drawn(sheet(chart(*[0.5] * 121, limits=[0.25])), LIMIT)
    assert not drawn(sheet(chart(*[0.5] * 121, limits=[25.0])), LIMIT)


def test_charts_of_a_row_stand_side_by_side_and_rows_below_each_other() -> None:
    one = sheet(chart(1.0))
    three = sheet(*[chart(1.0)] * 3)
    six = draw_sheet("a heading", [("a row", [chart(1.0)] * 3), ("another", [chart(1.0)] * 3)], SHEET)
    assert one.width == three.width == six.width == SHEET.width
    assert one.height == three.height < six.height


def test_a_sheet_without_charts_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one chart"):
        draw_sheet("a heading", [("a row", [])], SHEET)


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("s", 0.25, "250 ms"), ("s", 2.5, "2.5 s"), ("percentunit", 0.5, "50 %"), ("bytes", 2.5e8, "250 MB"),
        ("short", 2e6, "2 M"), ("reqps", 20, "20/s"), ("watt", 300, "300 W"), ("bytes", 4e9, "4.0 GB"),
    ],
)  # fmt: skip
def test_values_are_written_in_their_unit(unit: str, value: float, text: str) -> None:
    assert UNITS[unit](value) == text
