"""The model repository on disk, in Triton's layout: written in one step, hashed, read back. Torch-free.

<repository>/<model>/config.pbtxt
<repository>/<model>/<version>/model.onnx | model.plan | model.fp32.onnx | model.float.onnx
<repository>/<model>/<version>/mapping.onnx | directions.npz | directions.png | centers.npy | critic.onnx | judge.onnx
<repository>/<model>/<version>/manifest.json
"""

import codecs
import hashlib
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from artifact.formats import other_format
from artifact.golden import Golden
from artifact.spec import Spec, SpecError

MANIFEST = "manifest.json"
CONFIG = "config.pbtxt"
ONNX = "model.onnx"
ONNX_FP32 = "model.fp32.onnx"  # next to a graph of less precision, for items that overflow in it
ONNX_FLOAT = "model.float.onnx"  # next to a graph of uint8 images, for images of 16 bits
PLAN = "model.plan"
MAPPING = "mapping.onnx"  # of StyleGANs: from the latent to w, which the graph itself has inside
CRITIC = "critic.onnx"  # next to a generator: its discriminator
JUDGE = "judge.onnx"  # next to a generator: says what its images show
DIRECTIONS = "directions.npz"  # in the latent space, see artifact.directions
CENTERS = "centers.npy"  # of truncation, see artifact.centers
STRIP = "directions.png"  # images along them
DIRECTION_NAMES = "directions.txt"  # next to config.pbtxt, written by people: other names for them
IS_EMPTY = "is empty"
# Of a manifest or config, which are read whole.
MAX_TEXT_BYTES = 16 << 20


class ArtifactError(Exception):
    """A version that cannot be written or does not match its manifest; the text says which file and why."""


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_target(repository: Path, name: str, version: int) -> None:
    """Checks that `write_version` can write this version; leaves no trace on disk.

    Raises:
        ArtifactError: the name or version is not allowed, the version exists, or a folder cannot be written to.
    """
    if not name or "/" in name or name.startswith(".") or len(name.encode()) > 255:
        raise ArtifactError(
            f"model name {name!r}: must be a plain folder name, of up to 255 bytes, that does not begin with a dot"
        )
    if version < 1:
        raise ArtifactError(f"version {version}: must be a positive integer")
    target, model = repository / name / str(version), repository / name
    try:
        if target.exists():
            raise ArtifactError(f"{target} exists; pass another --version or delete it")
        existing = next(folder for folder in (repository, *repository.absolute().parents) if folder.exists())
        for folder in (existing, model) if model.exists() else (existing,):
            # Tried, since permission bits do not tell of a read-only mount or of root on NFS.
            with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder):
                pass
    except OSError as error:
        raise ArtifactError(f"cannot write {target}: {error.strerror or error}") from None


def next_version(repository: Path, name: str) -> int:
    """One more than the model's highest version on disk; 1 for a new model."""
    versions = [int(path.name) for path in (repository / name).glob("*") if path.name.isdecimal()]
    return max(versions, default=0) + 1


def write_version(
    repository: Path, name: str, version: int, spec: Spec, files: Mapping[str, Path], config: str
) -> Path:
    """Writes the version's folder in one rename, with `spec.files` filled in; `files` are moved, not copied.

    Nothing is left behind when it fails. `config` is written as the model's config.pbtxt, also in one rename; it
    replaces an existing one.

    Raises:
        ArtifactError: see `check_target`.
    """
    check_target(repository, name, version)
    model = repository / name
    target = model / str(version)
    repository.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".writing-", dir=repository))
    try:
        folder = staging / str(version)
        folder.mkdir()
        for file_name, source in files.items():
            shutil.move(source, folder / file_name)
        hashes = {file_name: sha256_of(folder / file_name) for file_name in files}
        (folder / MANIFEST).write_text(replace(spec, files=hashes).to_json())
        (staging / CONFIG).write_text(config)
        model.mkdir(exist_ok=True)
        (staging / CONFIG).replace(model / CONFIG)
        folder.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def read_text(path: Path) -> str | None:
    """A text file as people and editors write them (UTF-8, UTF-16), None if there is none.

    Raises:
        ArtifactError: it cannot be read, or is not text; the reason begins with the file's name.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise ArtifactError(f"{path.name} is a link to what does not exist") from None
        return None
    except OSError as error:
        raise ArtifactError(f"{path.name} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):  # a pipe would block
        raise ArtifactError(f"{path.name} is not a file")
    if status.st_size > MAX_TEXT_BYTES:
        raise ArtifactError(f"{path.name} has {status.st_size} bytes; at most {MAX_TEXT_BYTES}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path.name} cannot be read: {error.strerror}") from None
    if data and (what := _placeholder(data)):
        raise ArtifactError(f"{path.name} {what}")
    encoding = _encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        what = f"byte {data[error.start]:#04x} at {error.start}"
        raise ArtifactError(f"{path.name} is not {encoding.removesuffix('-sig').upper()} text: {what}") from None


def _encoding(data: bytes) -> str:
    """Of a text: by its mark, or by where its first two characters, which are ASCII in our files, have their zeros."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-32" if data.startswith(codecs.BOM_UTF32_LE) else "utf-16"
    zeros = [byte == 0 for byte in data[:4]]
    if zeros == [False, True, False, True]:
        return "utf-16-le"
    return "utf-16-be" if zeros == [True, False, True, False] else "utf-8-sig"


def placeholder(path: Path) -> str:
    """What a file is that stands in for another: "is a Git LFS pointer; ...", "" if it seems to be itself.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return _placeholder(file.read(512))


def _placeholder(start: bytes) -> str:
    if not start:
        return IS_EMPTY
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "is a Git LFS pointer, not the file itself; run git lfs pull"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not a model; download the file itself"
    return ""


def read_manifest(folder: Path) -> Spec | None:
    """The spec of a version's folder, None if it has no manifest.

    Raises:
        ArtifactError: the manifest is no text.
        SpecError: it does not say what a manifest says.
    """
    text = read_text(folder / MANIFEST)
    return None if text is None else Spec.from_json(text)


def earlier_golden(model: Path, version: int, golden: Golden) -> tuple[int, Golden] | None:
    """Golden statistics that can be compared with a version's, of the newest version before it in the model's folder
    that has such; None if none has."""
    numbers = [int(each.name) for each in model.glob("*") if re.fullmatch("[0-9]{1,18}", each.name)]
    for number in sorted((each for each in numbers if each < version), reverse=True):
        try:
            spec = read_manifest(model / str(number))
        except (ArtifactError, SpecError, OSError):
            continue
        if spec is not None and spec.golden is not None and spec.golden.is_like(golden):
            return number, spec.golden
    return None


def verify(folder: Path, spec: Spec) -> None:
    """Checks every file that the manifest names against its sha256. A plan may be copied without its graph.

    Raises:
        ArtifactError: a file is missing or its bytes are not those that were exported.
        OSError: a file cannot be read.
    """
    for file_name, expected in spec.files.items():
        if not is_inside(file_name):
            raise ArtifactError(f"{MANIFEST} names the file {file_name!r}, which is not in the version's folder")
        path = folder / file_name
        if not path.is_file():
            if file_name == ONNX and (folder / PLAN).is_file():
                continue
            what = "is not a file" if path.exists() else "is missing on disk"
            raise ArtifactError(f"{file_name}, named by the manifest, {what}")
        found = sha256_of(path)
        if found != expected:
            foreign = other_format(path) if path.suffix == ".onnx" else ""
            what = placeholder(path) or foreign or f"has sha256 {found[:12]}, {expected[:12]} in the manifest"
            raise ArtifactError(f"{file_name} {what}")


def is_inside(file_name: str) -> bool:
    """Whether a name, as a config or manifest has it, is of a file in the version's folder or below."""
    parts = file_name.split("/")
    return "\0" not in file_name and not any(part in ("", ".", "..") for part in parts)
