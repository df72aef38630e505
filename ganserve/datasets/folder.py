"""A data set's folder: its manifest, which shards are whole, and who writes one now. There is no coordinator.

manifest.json                   what the data set is
shard-00003-of-00020.json       a whole shard: its files with their sha256
shard-00003-of-00020.jsonl      a line for each of its images: file, seed, label, sha256
joined.json                     the one file that all shards were joined to (nvlabs-zip)
"""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ganserve.datasets.description import Description, require_same
from ganserve.datasets.errors import DataSetError
from ganserve.datasets.formats.writer import PartFile

MANIFEST = "manifest.json"
JOINED = "joined.json"


class DataSetFolder:
    """The folder of one data set, written by any number of processes.

    Raises:
        DataSetError: it holds something else.
    """

    def __init__(self, path: Path, about: Description) -> None:
        self.path, self.about = path, about
        self._verified: set[str] = set()
        path.mkdir(parents=True, exist_ok=True)
        with self._locked(".manifest.lock", "its manifest", waits=True):
            found = _read(path / MANIFEST)
            if found is not None:
                require_same(found, json.loads(about.to_json()), str(path))
                return
            others = sorted(each.name for each in path.iterdir() if not each.name.startswith("."))
            if others:
                raise DataSetError(f"--out {path}: holds {others[0]} and no {MANIFEST}; choose an empty folder")
            _write(path / MANIFEST, about.to_dict())

    def name_of(self, shard: int) -> str:
        """Of a shard's record."""
        return f"shard-{shard:05d}-of-{self.about.shards:05d}"

    @contextmanager
    def writing(self, shard: int) -> Iterator[None]:
        """While this process writes a shard.

        Raises:
            DataSetError: another process does.
        """
        with self._locked(f".{self.name_of(shard)}.lock", f"shard {shard}", waits=False):
            yield

    def record(self, shard: int) -> dict[str, Any] | None:
        """What is known of a whole shard; None: it is not."""
        return _read(self.path / f"{self.name_of(shard)}.json")

    def write_record(self, shard: int, files: Mapping[str, str], facts: Mapping[str, Any]) -> None:
        """Says that a shard is whole. `files`: name to sha256."""
        _write(self.path / f"{self.name_of(shard)}.json", {"shard": shard, **facts, "files": dict(files)})

    def missing(self) -> list[int]:
        """The shards that are not whole."""
        return [shard for shard in range(self.about.shards) if self.record(shard) is None]

    @contextmanager
    def joining(self) -> Iterator[bool]:
        """While this process joins the shards; False: that is done."""
        with self._locked(".joined.lock", JOINED, waits=True):
            yield _read(self.path / JOINED) is None

    def write_joined(self, file: Path) -> None:
        """Says that all shards are in one file."""
        _write(self.path / JOINED, {"images": self.about.contents.total, "files": {file.name: sha256_of(file)}})

    def verify(self, shard: int) -> None:
        """Whether a whole shard is as it was written: every byte of its files, or of those that it was joined to.

        Raises:
            DataSetError: a file is missing or another one.
        """
        with self.joining() if self.about.is_joined else nullcontext():
            joined = _read(self.path / JOINED)
            record = joined or self.record(shard)
            assert record is not None, "only whole shards are verified"
            again = f"{JOINED} and every shard-*.json" if joined else f"{self.name_of(shard)}.json"
            for name, expected in record["files"].items():
                self._verify(name, expected, again)
            if "each" in record:  # of files of their own, the list has the sums
                with (self.path / record["each"]).open(encoding="utf-8") as lines:
                    for line in lines:
                        image = json.loads(line)
                        self._verify(image["file"], image["sha256"], again)

    def _verify(self, name: str, expected: str, again: str) -> None:
        if name in self._verified:  # the joined file, by the shard before
            return
        path = self.path / name
        is_there = path.is_file()
        if not is_there or sha256_of(path) != expected:
            what = "has changed since it was written" if is_there else "is missing"
            raise DataSetError(f"{path} {what}; to make it again, delete {again}")
        if self.about.is_joined:
            self._verified.add(name)

    @contextmanager
    def _locked(self, name: str, what: str, waits: bool) -> Iterator[None]:
        path = self.path / name
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
                if _is_still(path, descriptor):
                    break
            except BlockingIOError:
                os.close(descriptor)
                raise DataSetError(f"{self.path}: another process is writing {what}") from None
            except OSError as error:
                os.close(descriptor)
                if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL):
                    raise
                raise DataSetError(f"--out {self.path}: its file system has no locks; choose another one") from None
            os.close(descriptor)  # its holder has removed it: lock the new one
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataSetError(f"{path}: is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise DataSetError(f"{path}: must hold an object")
    return found


def _write(path: Path, content: Mapping[str, Any]) -> None:
    part = PartFile(path)
    try:
        part.file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
        part.commit()
    finally:
        part.abandon()
