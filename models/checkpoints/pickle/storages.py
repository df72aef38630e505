"""Where torch's files keep the numbers: records of an archive, or one after the other behind the pickles (legacy).

Source: `torch/serialization.py`. The formats: docs of each function.
"""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol, cast

import numpy as np
import torch

from models.checkpoints.pickle.machine import DAMAGED, Name, Part, PickleError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of legacy files
MAX_INFLATION = 4  # a genuine zip stores its tensors; more than this is a bomb
TYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Untyped": torch.uint8,
}
Loader = Callable[[IO[bytes], Callable[[Any], Any] | None], Any]
"""Reads a stream's next pickle; persistent ids are given to the function."""


class Records(Protocol):
    """The files of an archive."""

    def names(self) -> list[str]:
        """Their names, folders with a slash."""

    def read(self, name: str) -> bytearray:
        """One of them.

        Raises:
            PickleError: missing, or damaged.
        """


class ZipRecords:
    """Those of a zip file, each checked against its CRC."""

    def __init__(self, path: Path) -> None:
        try:
            self.archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise PickleError(f"truncated or damaged zip archive: {str(error)[:100]}") from None
        self.sizes = {member.filename: member.file_size for member in self.archive.infolist()}
        if sum(member.file_size for member in self.archive.infolist()) > MAX_INFLATION * path.stat().st_size:
            raise PickleError("its records inflate far beyond the file's size; refused")

    def names(self) -> list[str]:
        """See `Records`."""
        return list(self.sizes)

    def read(self, name: str) -> bytearray:
        """See `Records`."""
        if name not in self.sizes:
            raise PickleError(f"truncated or damaged torch file: the record {name[-60:]!a} is missing")
        data = bytearray(self.sizes[name])
        view, place = memoryview(data), 0
        try:
            with self.archive.open(name) as opened:
                file = cast(io.BufferedIOBase, opened)
                while count := file.readinto(view[place:]):
                    place += count
                beyond = file.read(1)  # at the end the CRC is compared
        except Exception as error:  # of zipfile, zlib, lzma and others
            raise PickleError(f"truncated or damaged torch file: {str(error)[:100]}") from None
        if beyond or place < len(data):
            raise PickleError(f"truncated or damaged torch file: the record {name[-60:]!a} is not of its size")
        return data


class FolderRecords:
    """Those of an archive that somebody unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """See `Records`."""
        return [f"archive/{file.relative_to(self.path).as_posix()}" for file in self.path.rglob("*") if file.is_file()]

    def read(self, name: str) -> bytearray:
        """See `Records`."""
        file = self.path / name.removeprefix("archive/")
        if ".." in name or not file.is_file():
            raise PickleError(f"truncated or damaged torch file: the record {name[-60:]!a} is missing")
        return bytearray(file.read_bytes())


class ArchivedStorages:
    """The storages of an archive, `<folder>/<key>`, each read once, when a persistent id first stands for it."""

    def __init__(self, records: Records, folder: str, swapped: bool) -> None:
        self.records, self.folder, self.swapped = records, folder, swapped
        self.read: dict[str, torch.Tensor] = {}

    def __call__(self, identity: Any) -> object:
        """("storage", type, key, device, length) -> (length,) numbers."""
        dtype, key, length = _storage_facts(identity)
        if dtype is None:
            return Part("storage")
        if key not in self.read:
            raw = self.records.read(f"{self.folder}/{key}")
            self.read[key] = _numbers(_swap(raw, dtype.itemsize) if self.swapped else raw, dtype)
        found = self.read[key]
        if found.dtype != dtype or found.numel() < length:
            raise PickleError(f"{DAMAGED}: a storage of {length} {dtype} numbers in {found.nbytes} bytes")
        return found[:length]


class LegacyStorages:
    """The storages of a legacy file: made when a persistent id stands for them, filled from behind the pickles."""

    def __init__(self, size_bytes: int) -> None:
        self.left_bytes = size_bytes
        self.made: dict[str, object] = {}

    def __call__(self, identity: Any) -> object:
        """("storage", type, key, device, length, view) -> (length,) numbers; ("module", class, ...) -> the class."""
        if isinstance(identity, tuple) and len(identity) > 1 and identity[0] == "module":
            return identity[1]
        dtype, key, length = _storage_facts(identity)
        if key not in self.made:
            self.left_bytes -= length * (dtype.itemsize if dtype else 1)
            if self.left_bytes < 0:
                raise PickleError(f"truncated or damaged torch file: a storage of {length} numbers is not all there")
            self.made[key] = torch.zeros(length, dtype=dtype) if dtype else Part("storage")
        found = self.made[key]
        view = identity[5] if len(identity) > 5 else None
        if view is not None and isinstance(found, torch.Tensor):
            _, start, count = view
            return found[int(start) : int(start) + int(count)]
        return found

    def fill(self, stream: IO[bytes], keys: object) -> None:
        """Reads each key's length and numbers."""
        for key in keys if isinstance(keys, list) else ():
            found = self.made.get(key)
            header = stream.read(8)
            if not isinstance(found, torch.Tensor):
                raise PickleError(f"{DAMAGED}: a storage of a type that is not read")
            data = bytearray(found.nbytes)
            count = cast(io.BufferedIOBase, stream).readinto(data)
            if len(header) < 8 or struct.unpack("<q", header)[0] != found.numel() or count < len(data):
                raise PickleError(f"{DAMAGED}: a storage of {found.numel()} numbers in {count} bytes")
            if data:
                found.copy_(torch.frombuffer(data, dtype=found.dtype))


def read_legacy(stream: IO[bytes], size_bytes: int, load: Loader, begun: object = None) -> Any:
    """What a legacy file holds: pickles of magic number, protocol, system, object and storage keys, then the storages.

    `begun`: the magic number, if it is read already.

    Raises:
        PickleError: damaged, truncated, or of a machine of the other byte order.
    """
    magic = load(stream, None) if begun is None else begun
    protocol, system = load(stream, None), load(stream, None)
    if (magic, protocol) != (MAGIC, PROTOCOL) or not isinstance(system, dict):
        raise PickleError(f"{DAMAGED}: no torch file, or an embedded tensor that is no torch storage")
    if system.get("little_endian") is not True:
        raise PickleError("a torch file of a big-endian machine; save it on a little-endian one")
    storages = LegacyStorages(size_bytes)
    found = load(stream, storages)
    storages.fill(stream, load(stream, storages))
    return found


def _storage_facts(identity: Any) -> tuple[torch.dtype | None, str, int]:
    """(type, None for one that is not read; key; length) of a persistent id."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise PickleError(f"{DAMAGED}: a storage that is none")
    _, kind, key, _, length = identity[:5]
    if not isinstance(kind, Name) or not isinstance(key, str) or not isinstance(length, int) or length < 0:
        raise PickleError(f"{DAMAGED}: a storage that is none")
    return TYPES.get(kind.text.rpartition(".")[2].removesuffix("Storage")), key, length


def _numbers(raw: bytearray, dtype: torch.dtype) -> torch.Tensor:
    count = len(raw) // dtype.itemsize
    return torch.frombuffer(raw, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


def _swap(raw: bytearray, size: int) -> bytearray:
    if size not in (2, 4, 8) or len(raw) % size:
        return raw
    return bytearray(np.frombuffer(raw, f"u{size}").byteswap().tobytes())
