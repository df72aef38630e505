"""MNIST's files: read, checked, refused."""

import struct
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from training.data.mnist import PACKAGE, SHA256, load, read_idx
from training.data.packages import DataError, unpack


def idx(element: int, shape: tuple[int, ...], data: bytes) -> bytes:
    return bytes([0, 0, element, len(shape)]) + b"".join(struct.pack(">I", size) for size in shape) + data


def test_an_idx_file_gives_the_array_that_it_holds(tmp_path: Path) -> None:
    held = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "held").write_bytes(idx(0x08, held.shape, held.tobytes()))
    np.testing.assert_array_equal(read_idx(tmp_path / "held"), held)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "begins with nothing"),
        (b"\x1f\x8b\x08\x00", "begins with 1f 8b 08 00"),
        (idx(0x0D, (1,), b"\0\0\0\0"), "element type 0x0d"),
        (b"\0\0\x08\x03\0\0", "too few for the header of rank 3"),
        (idx(0x08, (2, 2), b"\0\0\0"), r"shape \(2, 2\) needs 16"),
        (idx(0x08, (2, 2), b"\0\0\0\0\0"), r"shape \(2, 2\) needs 16"),
        (idx(0x08, (2**32 - 1, 2**32 - 1, 28), b""), "needs"),
    ],
)
def test_what_is_no_idx_file_of_bytes_is_refused_in_one_line(tmp_path: Path, raw: bytes, said: str) -> None:
    (tmp_path / "file").write_bytes(raw)
    with pytest.raises(DataError, match=said) as refused:
        read_idx(tmp_path / "file")
    assert "\n" not in str(refused.value)


def test_digits_with_another_hash_are_refused(tmp_path: Path) -> None:
    for name in SHA256:
        (tmp_path / name).write_bytes(idx(0x08, (1,), b"\0"))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: sha256 is \w{64}, expected ba891046"):
        load(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train-images-idx3-ubyte: no such file"):
        load(tmp_path)


def test_a_package_with_another_hash_is_not_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as tar:
        for name in SHA256:
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = 1
            tar.addfile(member, BytesIO(b"\0"))
    with pytest.raises(DataError, match="expected 8f87f2d0"):
        unpack(PACKAGE, tmp_path / "other.tgz", (), tmp_path / "data")
    assert not (tmp_path / "data").exists()
