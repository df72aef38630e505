"""Reads a trained generator's weights from what training repositories leave behind, without running any of its code."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from artifact.repository import sha256_of
from models.architecture import StateDict
from models.catalogue import describe, recognise
from models.checkpoints import ncnn
from models.checkpoints.averages import add_averages, choose, says_average
from models.checkpoints.beside import facts_beside
from models.checkpoints.checks import Unusable, widened
from models.checkpoints.contents import Group, survey
from models.checkpoints.exported import read_exported
from models.checkpoints.formats import Format, FormatError, format_of
from models.checkpoints.networks import BESIDE, GENERATORS, Finder, Network, Piece, Undecided, unwrapped, words
from models.checkpoints.pickle import modules
from models.checkpoints.pickle.files import read_archive, read_pickle
from models.checkpoints.pickle.machine import Name, Part, PickleError


class CheckpointError(ValueError):
    """A file that holds no weights that can be read safely; one line that says what it is instead."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights as they were read: float tensors as float32, contiguous, on the CPU.

    `dtype` is what the file stored, `sha256` that of the file with the weights, `notes` what was decided on the way,
    `config` what a file that belongs to it (or the checkpoint itself) says of the network: plain JSON values. `known`:
    an architecture takes them.
    """

    state: StateDict
    dtype: str
    sha256: str
    notes: tuple[str, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict)
    known: bool = False


def read(path: Path, arch: str = "auto", key: str | None = None) -> Checkpoint:
    """The generator's state dict in a torch.save file (zip, legacy, or unpacked), a whole network that was pickled, a
    TorchScript, torch.export or safetensors file, a plain pickle, or an ncnn `.param` + `.bin` pair.

    Args:
        path: the file; a folder only if it is an unpacked torch file.
        arch: the architecture to look for, or "auto".
        key: which network, where there are several.

    Raises:
        CheckpointError: missing, empty, truncated, not a checkpoint, several networks, without tensors, or with NaN.
    """
    if not path.exists() or (path.is_dir() and not (path / "data.pkl").is_file()):
        raise CheckpointError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    if path.suffix in (".param", ".bin") and path.with_suffix(".param").is_file():
        return _read_ncnn(path.with_suffix(".param"), path.with_suffix(".bin"))
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    try:
        return from_contents(load(path), files, arch, key)
    except (CheckpointError, PickleError, FormatError) as error:
        raise CheckpointError(f"{path.name}: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path.name}: {error.strerror or error}") from None


def from_contents(found: object, files: Sequence[Path], arch: str = "auto", key: str | None = None) -> Checkpoint:
    """The generator in what those files hold together.

    Raises:
        CheckpointError: none, several, or damaged.
    """
    try:
        root = survey(found)
        finder = Finder(lambda state: recognise(state, arch))
        finder.search(root)
        add_averages(finder, root, strict=key is None)
        chosen = _chosen(finder, key)
        if isinstance(chosen, Network):
            _require_readable(chosen.group, chosen.prefix)
            state = _with_beside(chosen, root, finder)
            config = {**facts_beside(found, chosen.path, files[0]), **_config(chosen)}
            return replace(_checkpoint(state, files, _notes(chosen), config), known=True)
        _require_readable(chosen.group if chosen else root, ())
        if chosen is None:
            raise CheckpointError(_emptiness(root, found))
        note = (f"taken from key {chosen.name}{_average(chosen.path)}",) if chosen.path else ()
        return _checkpoint(unwrapped(chosen.state), files, note, _config(chosen))
    except (PickleError, Undecided, Unusable) as error:
        raise CheckpointError(str(error)) from None


def _read_ncnn(param: Path, binary: Path) -> Checkpoint:
    if not binary.is_file():
        raise CheckpointError(f"{param.name}: ncnn keeps the weights in {binary.name} next to it, which is missing")
    try:
        state = ncnn.read(param, binary)
        return _checkpoint(state, [binary], ("read from an ncnn pair: float16 kernels, float32 biases and slopes",), {})
    except (ncnn.NcnnError, Unusable) as error:
        raise CheckpointError(f"{param.name}: {error}") from None


def _checkpoint(
    state: StateDict, files: Sequence[Path], notes: tuple[str, ...], config: Mapping[str, object]
) -> Checkpoint:
    tensors, dtype = widened(state, sum(file.stat().st_size for file in files))
    hashes = [sha256_of(file) for file in files]
    sha256 = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    return Checkpoint(tensors, dtype, sha256, notes, config)


def load(path: Path) -> Any:
    """The top object of the file."""
    if path.is_dir():
        return read_archive(path)
    form = format_of(path)
    if form is Format.ARCHIVE:
        return read_archive(path)
    if form is Format.EXPORTED:
        return read_exported(path)
    if form is Format.PICKLE:
        return read_pickle(path)
    return load_safetensors(path)


def load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file.

    Raises:
        CheckpointError: damaged.
    """
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # the library's own error class and plain OSErrors
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"broken safetensors file: {line[:160]}") from None


def _chosen(finder: Finder, key: str | None) -> Network | Piece | None:
    """The network that is meant, or if none is known the piece that a generator's name or nothing else stands for."""
    if key is not None:
        return _named(finder, key)
    if finder.networks:
        return choose(finder.networks, finder.tried)
    pieces = [piece for piece in finder.pieces if any(tensor.ndim > 1 for tensor in piece.state.values())]
    pieces = pieces or finder.pieces
    named = [piece for piece in pieces if GENERATORS & {word for part in piece.path for word in words(part)}]
    for some in (pieces, [piece for piece in named if says_average(piece.path)], named):
        if len(some) == 1:
            return some[0]
    if not pieces:
        return None
    listed = "; ".join(f"{piece.name or 'the top'}: {describe(piece.state)}" for piece in pieces[:4])
    raise Undecided(f"several networks, and none is a known generator: {listed}")


def _named(finder: Finder, key: str) -> Network | Piece:
    """The one network, or piece, that `--key` names."""
    everything: list[Network | Piece] = [*finder.networks, *finder.pieces]
    for fits in (_is_called, _is_below):
        fitting = [one for one in everything if fits(one, key)]
        if known := [one for one in fitting if isinstance(one, Network)]:
            return choose(known)
        if fitting:
            return fitting[0]
    names = ", ".join(dict.fromkeys(one.name for one in everything if one.name)) or "one network, under no key"
    raise Undecided(f"--key {key}: no network of that name; the file has {names[:400]}")


def _is_called(found: Network | Piece, key: str) -> bool:
    names = (found.name, *(".".join((*alias, *_prefix(found))) for alias in found.group.aliases))
    return any(name == key or name.endswith(f".{key}") for name in names)


def _is_below(found: Network | Piece, key: str) -> bool:
    return found.name.startswith(f"{key}.") or f".{key}." in found.name


def _prefix(found: Network | Piece) -> tuple[str, ...]:
    return found.prefix if isinstance(found, Network) else ()


def _with_beside(chosen: Network, root: Group, finder: Finder) -> StateDict:
    """The network with tensors that lie next to it in the file and belong to it."""
    parent = next((group for group in root.walk() if group.path == chosen.path[:-1] and chosen.path), None)
    beside = {name: parent.tensors[name] for name in BESIDE if name in parent.tensors} if parent else {}
    state = {**chosen.state, **beside}
    return state if beside and finder.recognise(state) else chosen.state


def _notes(chosen: Network) -> tuple[str, ...]:
    average = _average((*chosen.path, *chosen.prefix), chosen.averaged)
    notes = [f"taken from key {'.'.join(chosen.path)}{average}"] if chosen.path else []
    if chosen.prefix:
        notes.append(f"prefix {'.'.join(chosen.prefix)}. taken off every key{'' if chosen.path else average}")
    return (*notes, *chosen.notes)


def _average(path: Sequence[str], known: bool = False) -> str:
    return " (the running average)" if known or says_average(path) else ""


def _config(chosen: Network | Piece) -> Mapping[str, object]:
    module = chosen.group.module
    for part in _prefix(chosen):
        module = modules.contents(module)[1].get(part) if module else None
    return modules.facts(module) if module else {}


def _require_readable(group: Group, prefix: Sequence[str]) -> None:
    start = "".join(f"{part}." for part in prefix)
    for inner in group.walk() if not prefix else (group,):
        for key, what in inner.unreadable.items():
            if key.startswith(start):
                raise Unusable(f"{key} is {what}; plain ones are read")


def _emptiness(root: Group, found: object) -> str:
    if any(group.is_optimizer for group in root.walk()):
        return "holds an optimizer's state and no network; give the file with the weights"
    if isinstance(found, Mapping):
        keys = ", ".join(str(key)[:40] for key in list(found)[:5])
        what = f"the keys {keys!a}" if keys else "an empty dict"
    elif isinstance(found, Part) and found.name.startswith(modules.SCRIPT):
        return "TorchScript with its weights frozen into the code; save the network's state_dict() before it is frozen"
    elif isinstance(found, Part | Name):
        name = found.name if isinstance(found, Part) else found.text
        what = f"an object ({name[:80]!a}), of which nothing was run,"
    else:
        what = f"a {type(found).__name__}"
    return f"holds {what} and no tensors of a network"
