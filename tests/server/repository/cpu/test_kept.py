"""Choices on disk: whole or not at all, whatever lies there, and marks that tell a crash from a process that lives."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server.repository.cpu.kept import DAY_S, Choice, KeptChoices

CHOICE = Choice("openvino", "bf16", "2.1 x onnx fp32")
ROOT = Path(__file__).parents[4]


def test_a_choice_is_read_as_it_was_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    kept = KeptChoices(tmp_path / "new" / "cpu")
    assert kept.read("key") is None
    kept.write("key", {"lanes": 2}, CHOICE)
    assert KeptChoices(tmp_path / "new" / "cpu").read("key") == CHOICE
    assert [path.name for path in kept.folder.iterdir()] == ["key.json"]
    assert json.loads((kept.folder / "key.json").read_text())["facts"] == {"lanes": 2}


def test_every_fact_makes_another_key() -> None:
    facts = {"graph_sha256": "a", "lanes": 2, "versions": {"openvino": "1"}}
    others = [{**facts, "graph_sha256": "b"}, {**facts, "lanes": 1}, {**facts, "versions": {"openvino": "2"}}]
    keys = {KeptChoices.key_of(each) for each in (facts, *others)}
    assert len(keys) == 4
    assert KeptChoices.key_of(dict(reversed(facts.items()))) == KeptChoices.key_of(facts)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b'{"choice": {}}',
        b'{"choice": {"engine": 1, "precision": "fp32"}}',
        b'{"choice": {"engine": "a", "precision": "fp32"}, "ends_at": "tomorrow"}',
        b"1" * 5000,
    ],
    ids=["empty", "cut", "binary", "list", "lacking", "number", "ends", "digits"],
)
def test_a_damaged_choice_is_none_with_a_warning(
    damage: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = KeptChoices(tmp_path)
    (tmp_path / "key.json").write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert kept.read("key") is None
    assert caplog.messages == ["kept choice of an engine not readable"]
    kept.write("key", {}, CHOICE)
    assert kept.read("key") == CHOICE


def test_a_folder_in_the_place_of_a_choice_is_none_too(tmp_path: Path) -> None:
    (tmp_path / "key.json").mkdir()
    kept = KeptChoices(tmp_path)
    assert kept.read("key") is None
    with pytest.raises(OSError, match=r"key\.json"):
        kept.write("key", {}, CHOICE)
    assert [path.name for path in tmp_path.iterdir()] == ["key.json"]


def test_a_mark_goes_with_its_trial_whether_it_fails_or_not(tmp_path: Path) -> None:
    kept = KeptChoices(tmp_path)

    def fail() -> None:
        with kept.trying("key", "openvino-bf16"):
            assert len(list(tmp_path.glob("key.openvino-bf16.*.trying"))) == 1
            kept.forget_crashes("key")
            assert len(list(tmp_path.glob("key.openvino-bf16.*.trying"))) == 1, "this process lives"
            raise ValueError("went wrong")

    with pytest.raises(ValueError, match="went wrong"):
        fail()
    assert list(tmp_path.iterdir()) == []


TRY_AND_END = """
import os, sys
from pathlib import Path
from server.repository.cpu.kept import KeptChoices
kept = KeptChoices(Path(sys.argv[1]))
with kept.trying("key", "openvino-bf16"):
    print("trying", flush=True)
    sys.stdin.readline()
    {end}
"""


def trying(folder: Path, end: str) -> subprocess.Popen[str]:
    """A process that tries a candidate, and ends so once it is told to."""
    code = TRY_AND_END.replace("{end}", end)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "trying\n"
    return process


@pytest.mark.parametrize(
    ("end", "code", "is_crash"),
    [
        ("os.kill(os.getpid(), 11)", -signal.SIGSEGV, True),
        ("os._exit(70)", 70, True),
        ("sys.exit(3)", 3, False),
    ],
    ids=["segfault", "last-resort", "orderly"],
)
def test_the_mark_of_a_process_tells_whether_it_crashed(
    end: str, code: int, is_crash: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = KeptChoices(tmp_path)
    with trying(tmp_path, end) as process:
        assert kept.why_skipped("key", "openvino-bf16") == ""
        assert caplog.messages == [], "it still runs, perhaps in another replica"
        process.communicate("end\n", timeout=30)
    assert process.returncode == code
    assert kept.why_skipped("key", "openvino-bf16") == "", "once may have been anything"
    assert ("engine tried again" in caplog.messages) is is_crash
    assert len(list(tmp_path.glob("key.openvino-bf16.*.trying"))) == is_crash
    kept.forget_crashes("key")
    assert list(tmp_path.iterdir()) == []


def test_a_second_crash_counts_for_a_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = KeptChoices(tmp_path)
    for _ in range(2):
        with trying(tmp_path, "os.kill(os.getpid(), 9)") as process:
            process.communicate("end\n", timeout=30)
    marks = sorted(tmp_path.glob("key.openvino-bf16.*.trying"))
    reason = kept.why_skipped("key", "openvino-bf16")
    assert reason.startswith("2 processes ended while trying it: it is skipped for a day; delete ")
    assert all(str(mark) in reason for mark in marks)
    assert kept.why_skipped("key", "openvino-fp32") == kept.why_skipped("other", "openvino-bf16") == ""
    assert caplog.messages == []
    yesterday = time.time() - DAY_S
    os.utime(marks[0], (yesterday, yesterday))
    assert kept.why_skipped("key", "openvino-bf16") == ""
    assert caplog.messages == ["engine tried again"]
    assert list(tmp_path.iterdir()) == marks[1:], "the old one is removed"


def test_a_choice_that_is_not_lasting_is_read_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, now = KeptChoices(tmp_path), time.time()
    kept.write("key", {}, CHOICE, is_lasting=False)
    kept.write("lasting", {}, CHOICE)
    seen = {}
    for hours in (-24, 1, 23, 25, 1000):
        monkeypatch.setattr("server.repository.cpu.kept.time.time", lambda hours=hours: now + hours * 3600)
        seen[hours] = (kept.read("key") is not None, kept.read("lasting") is not None)
    assert seen == {-24: (False, True), 1: (True, True), 23: (True, True), 25: (False, True), 1000: (False, True)}


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_tried(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        KeptChoices(tmp_path / "file" / "cpu").check_writable()
    if os.geteuid():  # root may write everywhere
        (tmp_path / "sealed").mkdir(mode=0o500)
        with pytest.raises(PermissionError):
            KeptChoices(tmp_path / "sealed").check_writable()
    KeptChoices(tmp_path / "fine" / "cpu").check_writable()
    assert list((tmp_path / "fine" / "cpu").iterdir()) == []
