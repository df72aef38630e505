"""The kit for a machine without a network: packed, carried and joined again, or refused."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bench.gpu import kit
from bench.gpu.kit import INDEX, KitError, install, join, split

ROOT = Path(__file__).resolve().parents[3]
PIECE_BYTES = 1000


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """One that fills several pieces, one that just fills what is left, one of nothing."""
    found = []
    for name, data in {"large.whl": b"abc" * 900, "small.whl": b"d" * 300, "empty.whl": b""}.items():
        found.append(tmp_path / name)
        found[-1].write_bytes(data)
    return found


def test_joined_files_are_those_that_were_packed(files: list[Path], tmp_path: Path) -> None:
    assert split(files, tmp_path / "pieces", PIECE_BYTES) == 3
    pieces = sorted((tmp_path / "pieces").iterdir())
    sizes = [sum(path.stat().st_size for path in piece.iterdir() if path.name != INDEX) for piece in pieces]
    assert sizes == [1000, 1000, 1000]
    joined, wrong = join(tmp_path / "pieces", tmp_path / "joined")
    assert [path.read_bytes() for path in joined] == [path.read_bytes() for path in files]
    assert not wrong


def test_what_was_not_carried_or_is_damaged_is_left_out_and_named(files: list[Path], tmp_path: Path) -> None:
    split(files, tmp_path / "pieces", PIECE_BYTES)
    (tmp_path / "pieces" / "piece-02" / "large.whl.001").unlink()
    (tmp_path / "pieces" / "piece-03" / "small.whl.000").write_bytes(b"e" * 300)
    joined, wrong = join(tmp_path / "pieces", tmp_path / "joined")
    assert [path.name for path in (tmp_path / "joined").iterdir()] == [path.name for path in joined] == ["empty.whl"]
    assert wrong[0] == "large.whl: piece-02/large.whl.001 is missing"
    assert wrong[1].startswith("small.whl: piece-03/small.whl.000 has the SHA-256 ")


def test_only_pieces_are_replaced_by_the_next_kit_and_whatever_else_lies_beside_them_is_not_read(
    files: list[Path], tmp_path: Path
) -> None:
    pieces = tmp_path / "pieces"
    assert split(files, pieces, 500) == 6
    assert split(files, pieces, PIECE_BYTES) == 3
    (pieces / "piece-01" / "large.whl.007").write_bytes(b"of another kit")
    (pieces / "mine").mkdir()
    joined, wrong = join(pieces, tmp_path / "joined")
    assert (len(joined), wrong) == (3, [])
    with pytest.raises(KitError, match="mine in it is no piece"):
        split(files, pieces, PIECE_BYTES)
    assert (pieces / "piece-01" / INDEX).is_file()


@pytest.mark.parametrize("text", ["{", "[]", '{"a.whl": ["piece-01"]}', '{"a.whl": 1}'])
def test_a_damaged_index_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "piece-01").mkdir()
    (tmp_path / "piece-01" / INDEX).write_text(text)
    with pytest.raises(KitError, match=r"kit\.json is damaged: carry it again"):
        join(tmp_path, tmp_path / "joined")


def test_no_kit_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"no piece-01 with a kit\.json"):
        join(tmp_path / "nothing", tmp_path / "joined")


def write_wheel(folder: Path, name: str) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return path


def test_a_wheel_that_pip_refuses_keeps_no_other_from_being_installed(tmp_path: Path) -> None:
    broken = tmp_path / "broken-1.0-py3-none-any.whl"
    broken.write_bytes(b"no archive")
    split([write_wheel(tmp_path, "whole"), broken], tmp_path / "pieces", PIECE_BYTES)
    (wrong,) = install(tmp_path / "pieces", tmp_path / "target")
    assert wrong.startswith("broken-1.0-py3-none-any.whl: ")
    assert (tmp_path / "target" / "site" / "whole.py").is_file()
    assert (tmp_path / "target" / "site" / "bin" / "ganserve").is_file()


def test_all_calls_of_pip_end_at_one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends_s = []

    def refuse(site: Path, wheels: list[Path], end_s: float) -> str:
        ends_s.append(end_s)
        return "refused"

    monkeypatch.setattr(kit, "_pip", refuse)
    split([write_wheel(tmp_path, "one"), write_wheel(tmp_path, "two")], tmp_path / "pieces", PIECE_BYTES)
    assert len(install(tmp_path / "pieces", tmp_path / "target")) == 2
    assert len(ends_s) == 3
    assert len(set(ends_s)) == 1


def test_the_check_needs_nothing_installed_to_refuse_a_kit(tmp_path: Path) -> None:
    command = [
        sys.executable, "-S", str(ROOT / "bench/gpu/check.py"), "--kit", str(tmp_path), "--work", str(tmp_path),
        "--out", str(tmp_path / "out"), "--parts", "speed",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    assert (done.returncode, done.stderr) == (2, f"gpu-check: {tmp_path}: no piece-01 with a kit.json in it\n")
    (page,) = (tmp_path / "out").glob("gpu-check-*.md")
    assert "| speed | NO | not ended |" in page.read_text()
    assert f"- left out of the kit: {tmp_path.name}: no piece-01 with a kit.json in it" in page.read_text()


def test_a_part_that_does_not_end_is_ended_with_all_it_started_and_the_files_say_so(tmp_path: Path) -> None:
    command = [
        sys.executable, str(ROOT / "bench/gpu/check.py"), "--device", "cpu", "--parts", "speed", "--seconds", "1",
        "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "gpu-check: speed: its time was over" in done.stdout
    assert "0 of 1 parts ended as they must" in done.stdout
    (written,) = (tmp_path / "out").glob("gpu-check-*.json")
    said = json.loads(written.read_text())
    assert [(part["part"], part["right"], part["how"]) for part in said["parts"]] == [
        ("speed", False, "its time was over")
    ]
    page = written.with_suffix(".md").read_text()
    assert "| speed | NO | its time was over |" in page
    assert "no figure of it is a GPU's" in page
