"""What a bare machine with a GPU and no network lacks: wheels and exported models, in pieces small enough to carry.

Made with `python -m bench gpu-kit`. On the other machine this file is run by its path, with nothing installed:

    python3 bench/gpu/kit.py PIECES TARGET    # checks and joins the pieces, installs the wheels into TARGET/site

Every piece is a folder `piece-NN` that holds parts of files. `kit.json`, in the first, says of each file its parts in
order, each with its SHA-256.
"""

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

INDEX = "kit.json"
MODELS = "models.tar.xz"
PIP_S = 90.0  # for all calls of pip together; one for all wheels takes 20
TOO_LONG = f"pip took longer than {PIP_S:.0f} s"
# What the machine is: CPython on x86-64 Linux with torch, its CUDA libraries, onnx, onnxscript and numpy.
GLIBC_MINORS = (39, 35, 34, 31, 28, 27, 24, 17, 12, 5)
WHEELS = (
    "onnxruntime-gpu", "tritonclient", "python-rapidjson", "grpcio", "grpcio-health-checking", "grpcio-reflection",
    "protobuf", "pygrpc-native", "nvidia-ml-py", "orjson", "isal", "pydantic", "pydantic-core", "pydantic-settings",
    "python-dotenv", "python-multipart", "annotated-types", "typing-inspection", "starlette", "uvicorn", "anyio",
    "h11", "click", "idna", "rich", "markdown-it-py", "mdurl", "pygments", "typer", "annotated-doc", "shellingham",
    "typing-extensions", "pillow", "safetensors", "prometheus-client", "pyyaml",
)  # fmt: skip
TENSORRT = ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs", "cuda-bindings")


class KitError(Exception):
    """A kit that cannot be made, or is none; the text names the file."""


def download(names: Sequence[str], constraints: Path, folder: Path, python: str) -> None:
    """The wheels of those packages for the machine, at the versions that `constraints` pins.

    Raises:
        KitError: pip has no such wheel.
    """
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBC_MINORS]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
        f"--python-version={python}", "--implementation=cp", *platforms, "--platform=manylinux2014_x86_64",
        "--platform=manylinux1_x86_64", "-c", str(constraints), "-d", str(folder), *names,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KitError(f"pip cannot download: {done.stderr.strip().splitlines()[-1]}")


def pack_models(repositories: Path, folder: Path) -> None:
    """One archive of everything below `repositories`: `fp32/NAME/1/...`, `zoo` and `checkpoints`. Weights
    hardly shrink, with the quickest preset as much as with others."""
    with tarfile.open(folder / MODELS, "w:xz", preset=0) as archive:
        for path in sorted(repositories.iterdir()):
            archive.add(path, path.name)


def split(files: Sequence[Path], pieces: Path, piece_bytes: int) -> int:
    """Cuts the files into folders of at most `piece_bytes`, filled one after the other; how many there are.

    Raises:
        KitError: see `_earlier`.
    """
    for path in _earlier(pieces):
        shutil.rmtree(path)
    index: dict[str, dict[str, str]] = {}
    number, room = 0, 0
    for path in files:
        parts = index[path.name] = {}
        with path.open("rb") as source:
            while data := source.read(room or piece_bytes):
                if room == 0:
                    number, room = number + 1, piece_bytes
                part = Path(f"piece-{number:02}") / f"{path.name}.{len(parts):03}"
                (pieces / part).parent.mkdir(parents=True, exist_ok=True)
                (pieces / part).write_bytes(data)
                parts[str(part)] = hashlib.sha256(data).hexdigest()
                room -= len(data)
    (pieces / "piece-01" / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    return number


def _earlier(pieces: Path) -> list[Path]:
    """The pieces of an earlier kit, which the next one replaces.

    Raises:
        KitError: in the folder there is something else.
    """
    found = sorted(pieces.glob("*"))
    if other := [path.name for path in found if not re.fullmatch(r"piece-\d+", path.name)]:
        raise KitError(f"{pieces}: {other[0]} in it is no piece; name a folder that is for pieces alone")
    return found


def join(pieces: Path, folder: Path) -> tuple[list[Path], list[str]]:
    """Puts the files together again in `folder`: those that are what was packed, and what is wrong with the others.

    Raises:
        KitError: there is no kit.
    """
    try:
        index = json.loads((pieces / "piece-01" / INDEX).read_text())
        files = {Path(name).name: dict(parts) for name, parts in index.items()}
    except OSError as error:
        raise KitError(f"{pieces}: no piece-01 with a {INDEX} in it") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise KitError(f"{pieces}: piece-01/{INDEX} is damaged: carry it again") from error
    folder.mkdir(parents=True, exist_ok=True)
    whole, wrong = [], []
    for name, parts in files.items():
        try:
            whole.append(_join_file(pieces, name, parts, folder))
        except (KitError, OSError) as error:
            (folder / name).unlink(missing_ok=True)
            wrong.append(str(error))
    return whole, wrong


def _join_file(pieces: Path, name: str, parts: Mapping[str, str], folder: Path) -> Path:
    path = folder / name
    with path.open("wb") as target:
        for part, sha256 in parts.items():
            if not (pieces / part).is_file():
                raise KitError(f"{name}: {part} is missing")
            data = (pieces / part).read_bytes()
            if (found := hashlib.sha256(data).hexdigest()) != sha256:
                raise KitError(f"{name}: {part} has the SHA-256 {found}, packed was {sha256}")
            target.write(data)
    return path


def make(
    pieces: Path, work: Path, constraints: Path, models: Path | None, piece_bytes: int, tensorrt: bool, python: str
) -> int:
    """Downloads and packs everything; how many pieces there are.

    Args:
        work: for what is downloaded, in place of what an earlier call left there.
        python: the machine's, as "3.12".
        models: repositories by precision, `fp32` and `fp16`, and for torch what they were made of: `zoo`, a cache of
            the zoo's weights, and `checkpoints`, NAME.pt each; None for none.

    Raises:
        KitError: pip has no such wheel, or see `_earlier`.
    """
    _earlier(pieces)
    wheels = work / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)  # of earlier pins: pip installs no two versions of one package
    wheels.mkdir(parents=True)
    download([*WHEELS, *(TENSORRT if tensorrt else ())], constraints, wheels, python)
    files = sorted(wheels.glob("*.whl"), key=lambda path: path.stat().st_size)
    if models is not None:
        pack_models(models, work)
        files.append(work / MODELS)
    return split(files, pieces, piece_bytes)


def install(pieces: Path, target: Path) -> list[str]:
    """Joins the kit and installs it: packages into `target/site`, models into `target/models`. What is damaged is left
    out, since much can be measured without it; the sentences say what, and why.

    Raises:
        KitError: there is no kit.
    """
    whole, wrong = join(pieces, target / "joined")
    site = target / "site"
    site.mkdir(parents=True, exist_ok=True)
    wheels = [path for path in whole if path.name != MODELS]
    for path in set(whole) - set(wheels):
        try:
            with tarfile.open(path) as archive:
                archive.extractall(target / "models", filter="data")
        except (OSError, tarfile.TarError) as error:
            wrong.append(f"{path.name}: {error}")
    end_s = time.monotonic() + PIP_S
    said = _pip(site, wheels, end_s) if wheels else ""
    if said == TOO_LONG:
        wrong.append(f"{len(wheels)} wheels: {said}")
    elif said:  # it installs all of them or none
        refused = {path.name: said for path in wheels if (said := _pip(site, [path], end_s))}
        wrong += [f"{name}: {said}" for name, said in refused.items()]
    _link_nvidia(site)
    _write_command(site)
    print(f"installed the kit into {site}; {len(wrong)} files left out", flush=True)
    return wrong


def _pip(site: Path, wheels: Sequence[Path], end_s: float) -> str:
    """What pip says against installing them, "" if nothing. `end_s`: when it is ended, on the monotonic clock."""
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--upgrade",
        "--target", str(site), *map(str, wheels),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=end_s - time.monotonic())
    except subprocess.TimeoutExpired:
        return TOO_LONG
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1] if done.returncode else ""


def _link_nvidia(site: Path) -> None:
    """Where the machine's torch brings CUDA's libraries, the kit's ONNX Runtime finds them beside itself."""
    found = importlib.util.find_spec("nvidia")
    if found is not None and found.submodule_search_locations and not (site / "nvidia").exists():
        (site / "nvidia").symlink_to(next(iter(found.submodule_search_locations)))


def _write_command(site: Path) -> None:
    """The checkout as if it were installed: the `ganserve` command and its version."""
    version = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]["version"]
    facts = site / f"ganserve-{version}.dist-info"
    facts.mkdir(exist_ok=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ganserve\nVersion: {version}\n")
    command = site / "bin" / "ganserve"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m ganserve "$@"\n')
    command.chmod(0o755)


if __name__ == "__main__":
    try:
        left_out = install(Path(sys.argv[1]), Path(sys.argv[2]))
        sys.exit("\n".join(f"kit: {said}" for said in left_out) or 0)
    except KitError as failure:
        sys.exit(f"kit: {failure}")
    except IndexError:
        sys.exit("usage: python3 bench/gpu/kit.py PIECES TARGET")
