"""`ganserve score`, and the options that choose images among candidates, against the fake server."""

import json
from pathlib import Path

import pytest
from PIL import Image

from ganserve.cli.main import main
from ganserve.v1 import images_pb2 as pb
from tests.ganserve.fake_server import Fake

Capture = pytest.CaptureFixture[str]


def test_files_and_folders_are_scored_the_best_first_if_wanted(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    sizes = {"b.png": 40, "a.png": 4, "c.png": 90}
    for name, side in sizes.items():
        Image.effect_noise((side, side), 50).save(tmp_path / name)  # the fake server scores by bytes
    (tmp_path / "notes.txt").write_text("no image")
    command = ["score", "faces", str(tmp_path), "--labels", "3", "--fit", "cover", "--server", fake.server, "--json"]
    assert main(command) == 0
    assert [Path(row["file"]).name for row in json.loads(capsys.readouterr().out)] == ["a.png", "b.png", "c.png"]
    request = fake.service.requests[-1]
    assert (list(request.labels), request.fit, len(request.images)) == (["3"], pb.FIT_COVER, 3)
    assert main([*command[:-1], "--sort"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1][-5:] for line in lines] == ["file", "c.png", "b.png", "a.png"]
    assert lines[1].split()[1] == "50.0"


def test_mistakes_are_one_sentence(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    out = ["-o", str(tmp_path / "x.png"), "--server", fake.server]
    for command, text in (
        (["score", "faces", str(tmp_path / "empty"), "--server", fake.server], "a folder without images"),
        (
            ["generate", "faces", "--seeds", "1", "--best-of", "2", "--min-percentile", "50", *out],
            "pass one of best_of",
        ),
        (["generate", "faces", "--seeds", "1", "--drs-percentile", "101", *out], "drs_percentile must be 0 to 100"),
        (["generate", "faces", "--seeds", "1", "--max-tries", "4", *out], "max_tries goes with min_percentile"),
    ):
        assert main(command) in (2, 7)
        assert text in capsys.readouterr().err
    assert not fake.service.requests


def test_candidates_count_in_how_many_images_one_call_has(fake: Fake, tmp_path: Path) -> None:
    out = ["-o", str(tmp_path / "x.png"), "--server", fake.server]
    assert main(["generate", "faces", "--seeds", "0-99", "--best-of", "64", *out]) == 0
    assert [len(request.seeds.values) for request in fake.service.requests] == [16] * 6 + [4]
    assert {request.best_of for request in fake.service.requests} == {64}
    assert main(["generate", "faces", "--seeds", "0", "--min-percentile", "70", *out]) == 0
    assert fake.service.requests[-1].rejection == pb.Rejection(min_percentile=70)
