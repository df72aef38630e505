"""The kit for a machine without a network: packed, carried and joined again, or refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.gpu.kit import INDEX, KitError, join, split

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
    joined = list(join(tmp_path / "pieces", tmp_path / "joined"))
    assert [path.read_bytes() for path in joined] == [path.read_bytes() for path in files]


def test_a_piece_that_was_not_carried_is_named(files: list[Path], tmp_path: Path) -> None:
    split(files, tmp_path / "pieces", PIECE_BYTES)
    (tmp_path / "pieces" / "piece-02" / "large.whl.001").unlink()
    with pytest.raises(KitError, match=r"large\.whl: piece-02/large\.whl\.001 is missing"):
        list(join(tmp_path / "pieces", tmp_path / "joined"))
    with pytest.raises(KitError, match=r"no piece-01 with a kit\.json"):
        list(join(tmp_path / "nothing", tmp_path / "joined"))


def test_a_damaged_file_is_not_there(files: list[Path], tmp_path: Path) -> None:
    split(files, tmp_path / "pieces", PIECE_BYTES)
    (tmp_path / "pieces" / "piece-03" / "small.whl.000").write_bytes(b"e" * 300)
    with pytest.raises(KitError, match=r"small\.whl: its SHA-256 is"):
        list(join(tmp_path / "pieces", tmp_path / "joined"))
    assert not (tmp_path / "joined" / "small.whl").exists()


def test_the_check_needs_nothing_installed_to_refuse_a_kit(tmp_path: Path) -> None:
    command = [sys.executable, "-S", str(ROOT / "bench/gpu/check.py"), "--kit", str(tmp_path), "--work", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    assert (done.returncode, done.stderr) == (2, f"gpu-check: {tmp_path}: no piece-01 with a kit.json in it\n")


def test_a_part_that_does_not_end_is_ended_with_all_it_started(tmp_path: Path) -> None:
    command = [
        sys.executable, str(ROOT / "bench/gpu/check.py"), "--device", "cpu", "--parts", "speed", "--seconds", "1",
        "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "gpu-check: speed: its time was over" in done.stdout
    assert "0 of 1 parts ended as they must" in done.stdout
