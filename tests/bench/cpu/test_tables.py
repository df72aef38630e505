"""The tables of one machine, as text; what they measure is tested where it is measured."""

import io
from itertools import chain

import pytest
from PIL import Image

from bench.caller.loops import Phase
from bench.caller.wire import OK, Answer
from bench.cpu.tables import Cell, Table, _name, _order, engine_of, picture


def test_a_table_is_markdown_with_numbers_to_the_right() -> None:
    table = Table("Calls", ("callers", "calls/s"), [("1", "900"), ("64", "9000")], {}, "On an idle machine.")
    assert table.markdown().splitlines() == [
        "### Calls", "", "| callers | calls/s |", "| --- | ---: |", "| 1 | 900 |", "| 64 | 9000 |", "",
        "On an idle machine.",
    ]  # fmt: skip


def test_what_a_call_takes_above_the_engine_is_compared_within_each_round() -> None:
    def phase(latency_s: float) -> Phase:
        return Phase(0.0, 1.0, answers=[Answer(0.0, latency_s, OK, 12)])

    cell = Cell([phase(0.002), phase(0.008), phase(0.003)], [0.0015, 0.0072, 0.0026])
    assert cell.above_engine_s == pytest.approx(0.0005)


def test_each_turn_begins_with_another_server() -> None:
    assert [list(_order(2, turn)) for turn in range(3)] == [[0, 1], [1, 0], [0, 1]]
    assert sorted(chain(*(_order(3, turn) for turn in range(3)))) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_server_is_called_by_what_its_arguments_say() -> None:
    assert [_name(line) for line in ("--engine auto", "--engine openvino --cpu-precision bf16", "")] == [
        "auto", "openvino bf16", "default",
    ]  # fmt: skip


def test_the_picture_is_a_jpeg_of_that_size_and_always_the_same() -> None:
    data = picture(48)
    assert data == picture(48)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", (48, 48))


def test_what_runs_a_model_is_read_from_the_servers_page() -> None:
    page = (
        "# TYPE ganserve_model_info gauge\n"
        'ganserve_model_info{model="faces",version="1",engine="openvino",precision="bf16"} 1\n'
    )
    assert (engine_of(page, "faces"), engine_of(page, "other")) == ("openvino bf16", "unknown")
