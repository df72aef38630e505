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
MAX_SHARDS = 1000
_SHARD = re.compile(r"(.+)-\d+-of-(\d+)\.(safetensors|bin|pth|pt)")


def find_index(path: Path) -> Path | None:
    """The index: `path` itself, that of the shard that `path` is, or the one in the folder; None if there is none.

    Raises:
        CheckpointError: a shard of several, whose index is missing.
    """
    if path.is_file():
        if path.name.endswith(INDEX):
            return path
        shard = _SHARD.fullmatch(path.name)
        if shard is None:
            return None
        index = path.with_name(f"{shard[1]}.{shard[3]}{INDEX}")
        if not index.is_file() and int(shard[2][:9]) > 1:
            raise CheckpointError(f"{path.name}: one of {shard[2]} shards; {index.name} is missing, which joins them")
        return index if index.is_file() else None
    found = sorted(file for file in path.glob(f"*{INDEX}") if file.is_file()) if path.is_dir() else []
    return found[0] if len(found) == 1 else None


def read_shards(index: Path, arch: str = "auto", key: str | None = None) -> Checkpoint:
    """The weights of all files that the index names, as one state dict.

    Raises:
        CheckpointError: no index, a file that is missing or outside the folder, or as `read.read` does.
    """
    places = _places(index)
    files = [index.parent / name for name in sorted(set(places.values()))]
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
    lacking = [key for key in places if key not in joined]
    if lacking:
        what = f"{lacking[0][:120]!a} is not in {places[lacking[0]]}"
        raise CheckpointError(f"{index.name}: {what}; the files are of different networks")
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


def _places(index: Path) -> dict[str, str]:
    """The file that each tensor is in.

    Raises:
        CheckpointError: no index, or a name that is no plain file name.
    """
    try:
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise CheckpointError(f"{index.name}: {index.stat().st_size} bytes, {MAX_INDEX_BYTES} at most")
        places = {str(key): str(name) for key, name in json.loads(index.read_text("utf-8"))["weight_map"].items()}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise CheckpointError(f"{index.name}: no index of shards, which has `weight_map`") from None
    names = set(places.values())
    if len(names) > MAX_SHARDS:
        raise CheckpointError(f"{index.name}: names {len(names)} files, {MAX_SHARDS} at most")
    if not names or not all(Path(name).name == name and name.isprintable() and len(name) < 200 for name in names):
        raise CheckpointError(f"{index.name}: names no files of its own folder")
    return places
