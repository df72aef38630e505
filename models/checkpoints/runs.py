"""The folder of a training run: many snapshots of several networks, of which the newest generator is meant.

Files of junyanz (`latest_net_G.pth`), BasicSR (`models/net_g_latest.pth`), yunjey (`20000-G.ckpt`), Lightning
(`checkpoints/epoch=9-step=100.ckpt`), mmagic (`iter_2000.pth`), accelerate (`model_1.safetensors`), Hugging Face, and
of scripts with names of their own. Names say what is a snapshot of what, tensors which of them is a generator.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.checkpoints.averages import says_average
from models.checkpoints.networks import DISCRIMINATORS, GENERATORS, words
from models.checkpoints.read import Checkpoint, CheckpointError, read
from models.checkpoints.shards import find_index, read_shards

SUFFIXES = (".bin", ".ckpt", ".model", ".pickle", ".pkl", ".pt", ".pth", ".safetensors", ".tar")
NO_WEIGHTS = {
    "optim",
    "optimizer",
    "optimizers",
    "opt",
    "scheduler",
    "scaler",
    "sampler",
    "random",
    "rng",
    "states",
    "args",
}
# Words that say which snapshot it is, not of what.
NEWEST = ("latest", "last", "final", "best")
MOMENTS = {
    *NEWEST,
    "epoch",
    "epochs",
    "ep",
    "step",
    "steps",
    "iter",
    "iters",
    "iteration",
    "kimg",
    "checkpoint",
    "ckpt",
}
MAX_FILES = 10_000
MAX_DEPTH = 5
MAX_SERIES = 8


def read_run(folder: Path, arch: str = "auto", key: str | None = None) -> Checkpoint:
    """The newest generator in the folder of a run.

    Raises:
        CheckpointError: no weights, no generator, or several; then with the files.
    """
    files = _weights(folder)
    if not files:
        inside = ", ".join(path.name for path in sorted(folder.iterdir())[:5])
        raise CheckpointError(f"{folder.name}: a folder with no weights in it ({inside[:200]}); give the checkpoint")
    series: dict[tuple[str, ...], list[Path]] = {}
    for file in files:
        series.setdefault(_subject(file.relative_to(folder)), []).append(file)
    newest = [max(same, key=lambda file: _moment(file.relative_to(folder))) for same in series.values()]
    found = {file: checkpoint for file in _likely(newest) if (checkpoint := _try(file, arch, key, len(newest) == 1))}
    chosen = _choose(found, folder)
    if chosen is None:
        raise CheckpointError(f"{folder.name}: which file is meant? {_listed(list(found) or newest, folder)}; give one")
    others = len(files) - 1
    average = " (the running average)" if _says_average(chosen, folder) else ""
    note = f"{chosen.relative_to(folder)} of the folder{average}" + (f", which has {others} other(s)" if others else "")
    return replace(found[chosen], notes=(note, *found[chosen].notes))


def _weights(folder: Path) -> list[Path]:
    found: list[Path] = []
    for count, path in enumerate(sorted(folder.rglob("*"))):
        if count > MAX_FILES:
            raise CheckpointError(f"{folder.name}: more than {MAX_FILES} files; give the checkpoint")
        relative = path.relative_to(folder)
        if len(relative.parts) > MAX_DEPTH or any(part.startswith(".") for part in relative.parts):
            continue
        said = {word for part in relative.parts for word in words(part)}
        if path.suffix.lower() in SUFFIXES and path.is_file() and not said & NO_WEIGHTS:
            found.append(path)
    return found


def _subject(file: Path) -> tuple[str, ...]:
    """What a file is a snapshot of: the words of its path that are no moment."""
    if re.fullmatch(r"(pytorch_)?model(_\d+)?", file.stem):  # accelerate numbers its networks
        return (*_without_moments(file.parent), file.stem)
    return _without_moments(file.with_suffix(""))


def _without_moments(path: Path) -> tuple[str, ...]:
    said = [word for part in path.parts for word in words(part)]
    return tuple(word for word in said if word not in MOMENTS and not re.fullmatch(r"[a-z]?\d+[a-z]?|\d+k", word))


def _moment(file: Path) -> tuple[int, tuple[int, ...]]:
    said = {word for part in file.parts for word in words(part)}
    rank = next((len(NEWEST) - place for place, word in enumerate(NEWEST) if word in said), 0)
    return rank, tuple(int(number) for number in re.findall(r"\d+", str(file))[:9])


def _likely(files: Sequence[Path]) -> list[Path]:
    """Those that may be generators, by their names; all, if no name says so."""
    kinds = {file: set(words(file.stem)) for file in files}
    others = [file for file in files if not kinds[file] & DISCRIMINATORS or kinds[file] & GENERATORS - {"model"}]
    return (others or list(files))[:MAX_SERIES]


def _try(file: Path, arch: str, key: str | None, only: bool) -> Checkpoint | None:
    """The checkpoint, None if it is no generator, unless it is the only one: then that says what is wrong."""
    try:
        index = find_index(file)
        found = read_shards(index, arch, key) if index else read(file, arch, key)
    except CheckpointError:
        if only:
            raise
        return None
    return found if found.known or only else None


def _choose(found: dict[Path, Checkpoint], folder: Path) -> Path | None:
    """The one file, or the average of several copies of one network."""
    shapes = {tuple(sorted((key, tuple(value.shape)) for key, value in one.state.items())) for one in found.values()}
    if len(found) == 1:
        return next(iter(found))
    averages = [file for file in found if _says_average(file, folder)]
    return averages[0] if len(shapes) == 1 and len(averages) == 1 else None


def _says_average(file: Path, folder: Path) -> bool:
    return says_average(file.relative_to(folder).with_suffix("").parts)


def _listed(files: Sequence[Path], folder: Path) -> str:
    names = ", ".join(str(file.relative_to(folder)) for file in files[:8])
    return names[:300] + (" ..." if len(files) > 8 or len(names) > 300 else "")
