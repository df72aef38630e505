"""Weights in several files with an index, as Hugging Face's libraries write them: `<name>.safetensors.index.json`."""

import json
import re
from pathlib import Path

from models.checkpoints.formats import Format, FormatError, format_of
from models.checkpoints.pickle.files import read_archive, read_pickle
from models.checkpoints.pickle.machine import PickleError
from models.checkpoints.read import Checkpoint, CheckpointError, from_contents, load_safetensors

INDEX = ".index.json"
MAX_INDEX_BYTES = 2**24
_SHARD = re.compile(r"(.+)-\d+-of-\d+\.(safetensors|bin|pth|pt)")


def find_index(path: Path) -> Path | None:
    """The index: `path` itself, that of the shard that `path` is, or the one in the folder; None if there is none."""
    if path.is_file():
        if path.name.endswith(INDEX):
            return path
        shard = _SHARD.fullmatch(path.name)
        index = path.with_name(f"{shard[1]}.{shard[2]}{INDEX}") if shard else path
        return index if shard and index.is_file() else None
    found = sorted(path.glob(f"*{INDEX}")) if path.is_dir() else []
    return found[0] if len(found) == 1 else None


def read_shards(index: Path, arch: str = "auto", key: str | None = None) -> Checkpoint:
    """The weights of all files that the index names, as one state dict.

    Raises:
        CheckpointError: no index, a file that is missing or outside the folder, or as `read.read` does.
    """
    files = [index.parent / name for name in _names(index)]
    missing = ", ".join(file.name for file in files if not file.is_file())
    if missing:
        raise CheckpointError(f"{index.name}: names {missing[:200]}, which is missing next to it")
    joined: dict[str, object] = {}
    for file in files:
        try:
            part = _load(file)
        except (PickleError, FormatError, CheckpointError) as error:
            raise CheckpointError(f"{file.name}: {error}") from None
        if not isinstance(part, dict):
            raise CheckpointError(f"{file.name}: holds a {type(part).__name__} where a part of a state dict belongs")
        joined |= part
    try:
        found = from_contents(joined, files, arch, key)
    except CheckpointError as error:
        raise CheckpointError(f"{index.name}: {error}") from None
    note = f"{len(files)} shards joined"
    return Checkpoint(found.state, found.dtype, found.sha256, (note, *found.notes), found.config, found.known)


def _load(file: Path) -> object:
    form = format_of(file)
    if form is Format.SAFETENSORS:
        return load_safetensors(file)
    return read_archive(file) if form is Format.ARCHIVE else read_pickle(file)


def _names(index: Path) -> list[str]:
    """The shards' names, in order.

    Raises:
        CheckpointError: no index, or a name that is no plain file name.
    """
    try:
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise CheckpointError(f"{index.name}: {index.stat().st_size} bytes, {MAX_INDEX_BYTES} at most")
        names = json.loads(index.read_text("utf-8"))["weight_map"].values()
        listed = sorted({str(name) for name in names})
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise CheckpointError(f"{index.name}: no index of shards, which has `weight_map`") from None
    if not listed or any(Path(name).name != name for name in listed):
        raise CheckpointError(f"{index.name}: names no files of its own folder")
    return listed
