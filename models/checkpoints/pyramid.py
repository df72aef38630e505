"""A folder with one file per level of a pyramid of generators (LAPGAN), read as one state dict `levels.<i>.<key>`."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from models.checkpoints.read import Checkpoint, CheckpointError, read

SUFFIXES = ("", ".bin", ".ckpt", ".model", ".pkl", ".pt", ".pth", ".safetensors")
# gen_0.pth (breadbread1984/LAPGAN-pt), G0.pth, Gen_zero.pth, generator_two.pth, netG_level_1.pt, level_2.pth
NAME = re.compile(
    r"(?:g|gen|netg|generator|levels?)[_.-]?(?:levels?[_.-]?)?(\d+|zero|one|two|three|four)", re.IGNORECASE
)
MAX_LEVELS = 8  # more are the snapshots of a run
WORDS = ("zero", "one", "two", "three", "four")


def read_pyramid(folder: Path, read_file: Callable[[Path], Checkpoint] = read) -> Checkpoint:
    """The levels' weights as one state dict: keys `levels.<i>.<key>`, i from 0, coarse to fine.

    Numbers in the files' names order them. Which end is coarse the files say: the base has only linear layers, so that
    both gen_0 as the finest (breadbread1984) and G0 as the base are read rightly.

    Raises:
        CheckpointError: no such files, missing or doubled numbers, no base at either end, or an unreadable file.
    """
    files = _files(folder)
    parts = [read_file(path) for _, path in sorted(files.items())]
    bases = [all(tensor.ndim < 4 for tensor in part.state.values()) for part in parts]
    if bases[-1] and not bases[0]:
        parts.reverse()
    elif not bases[0] or any(bases[1:]):
        found = ", ".join(path.name for (_, path), base in zip(sorted(files.items()), bases, strict=True) if base)
        raise CheckpointError(
            f"{folder.name}: the first or the last level must be the one with linear layers only; {found or 'none'} is"
        )
    return replace(
        parts[0],
        state={f"levels.{level}.{key}": value for level, part in enumerate(parts) for key, value in part.state.items()},
        dtype="+".join(sorted({dtype for part in parts for dtype in part.dtype.split("+")})),
        sha256=hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest(),
        notes=(f"read from the {len(parts)} levels of a folder, {_order(files, bases)}", *_notes(parts)),
    )


def _files(folder: Path) -> dict[int, Path]:
    """The levels' files by number."""
    files: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        found = NAME.fullmatch(path.stem) if path.is_file() and path.suffix.lower() in SUFFIXES else None
        if found:
            word = found[1].lower()
            number = WORDS.index(word) if word in WORDS else int(word)
            if number in files:
                raise CheckpointError(f"{folder.name}: {files[number].name} and {path.name} are of one level")
            files[number] = path
    first = min(files, default=0)
    missing = [number for number in range(first, first + len(files)) if number not in files]
    if not 2 <= len(files) <= MAX_LEVELS or missing:
        names = ", ".join(path.name for path in files.values()) or "none"
        raise CheckpointError(
            f"{folder.name}: a folder is read as a pyramid, with files gen_0, gen_1, ... for its levels; found {names}"
        )
    return files


def _order(files: dict[int, Path], bases: list[bool]) -> str:
    names = [path.name for _, path in sorted(files.items())]
    return f"{names[0]} the coarsest" if bases[0] else f"{names[-1]} the coarsest"


def _notes(parts: list[Checkpoint]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for part in parts for note in part.notes))
