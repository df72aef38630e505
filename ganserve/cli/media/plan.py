"""Inputs and output as typed -> which file becomes which, refused as a whole before anything is read."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from ganserve.cli.output import CommandError
from ganserve.client.encode import PILLOW_FORMATS
from ganserve.client.formats import CLIENT_SUFFIXES, SUFFIXES, format_of

PIPE = "-"
FILMS = (".mkv", ".mp4", ".m4v", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".vob", ".wmv", ".flv")
# Containers that keep every time stamp, which others become; .avi has none, and is for even rates, if asked for.
TIMED_FILMS = (".mkv", ".mp4", ".m4v", ".mov", ".webm", ".ts", ".m2ts")
FILM_TARGETS = (*TIMED_FILMS, ".avi")
WRITABLE = (*SUFFIXES, *CLIENT_SUFFIXES)
READABLE = (
    *WRITABLE,
    ".apng",
    ".avifs",
    ".hif",
    ".jp2",
    ".j2k",
    ".ico",
    ".pbm",
    ".pgm",
    ".ppm",
    ".pnm",
    ".tga",
    ".dds",
)
FIELDS = ("stem", "name", "suffix", "folder", "index", "model")


@dataclass(frozen=True)
class Conversion:
    """One input and where its result goes. None: stdin, stdout."""

    source: Path | None
    target: Path | None
    suffix: str  # of the target

    @property
    def is_film(self) -> bool:
        """Whether it is a film, not an image."""
        return self.source is not None and self.source.suffix.lower() in FILMS

    def __str__(self) -> str:
        return PIPE if self.source is None else str(self.source)


@dataclass(frozen=True)
class Naming:
    """How outputs are named: the option --format (a suffix, or None), what --suffix adds, and the model's name."""

    format: str | None
    added: str
    model: str

    @staticmethod
    def of(format: str | None, added: str, model: str) -> "Naming":
        """From the options as typed."""
        return Naming(None if format is None else f".{format.lower().lstrip('.')}", added, model)

    def suffix_for(self, source: Path | None) -> str:
        """Of the output: as asked, else the input's own, else .png; films stay films."""
        own = "" if source is None else source.suffix.lower()
        if own in FILMS:
            if self.format in FILM_TARGETS:
                return self.format
            return own if own in TIMED_FILMS else ".mkv"
        return self.format or (own if own in WRITABLE else ".png")


def plan(inputs: Sequence[str], output: str, naming: Naming, *, force: bool = False) -> list[Conversion]:
    """Every input with its output.

    Args:
        inputs: files, folders, patterns such as `*.jpg`, or `-` for stdin.
        output: a file, a folder, a pattern such as `out/{stem}-large.png`, or `-` for stdout.
        naming: of outputs in folders.
        force: lets an output take the place of an input.

    Raises:
        CommandError: an input that is not there, an output for two inputs, or one that would overwrite an input.
        ValueError: a suffix that nothing here writes.
    """
    if naming.format is not None and naming.format not in FILM_TARGETS:
        format_of(Path(f"--format {naming.format}"))
    found = list(_found(inputs, output))
    if not found:
        raise CommandError(
            f"{', '.join(inputs)}: no file with a suffix of an image or film ({', '.join(READABLE[:7])} ...)"
        )
    conversions = list(_named(found, inputs, output, naming))
    if naming.added and any(each.target is None or naming.added not in each.target.stem for each in conversions):
        raise CommandError(f"--suffix {naming.added}: is for outputs in a folder, got -o {output}")
    _check(conversions, force)
    return conversions


def _found(inputs: Sequence[str], output: str) -> Iterator[tuple[Path | None, Path]]:
    """Each input file, and its place below an output folder."""
    if PIPE in inputs:
        if len(inputs) > 1:
            raise CommandError("- (stdin) is one input; pass no other with it")
        yield None, Path("stdin")
        return
    skipped = Path(output).resolve() if output != PIPE and "{" not in output else None
    for each in inputs:
        path = Path(each)
        if path.is_dir():
            below = Path(path.resolve().name) if len(inputs) > 1 else Path()
            yield from ((file, below / file.relative_to(path)) for file in _files_below(path, skipped))
        elif path.exists() or not glob.has_magic(each):
            if not path.exists():
                raise CommandError(f"{each}: No such file or directory")
            yield path, Path(path.name)
        else:
            matches = sorted(Path(name) for name in glob.glob(each, recursive=True))  # noqa: PTH207  # absolute ones too
            if not matches:
                raise CommandError(f"{each}: no file matches")
            yield from ((match, Path(match.name)) for match in matches if match.is_file())


def _files_below(folder: Path, skipped: Path | None) -> Iterator[Path]:
    """Images and films in the folder and below, sorted; hidden ones and the output's folder left out."""
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and (Path(at) / name).resolve() != skipped
        )
        for name in sorted(names):
            path = Path(at) / name
            if not name.startswith(".") and path.suffix.lower() in (*READABLE, *FILMS) and not _is_typescript(path):
                yield path


def _is_typescript(path: Path) -> bool:
    """A .ts that is no film: those begin with the byte 0x47."""
    if path.suffix.lower() != ".ts":
        return False
    with path.open("rb") as file:
        return file.read(1) != b"G"


def _named(
    found: Sequence[tuple[Path | None, Path]], inputs: Sequence[str], output: str, naming: Naming
) -> Iterator[Conversion]:
    if output == PIPE:
        if len(found) > 1:
            raise CommandError(f"-o - (stdout) is for one input, got {len(found)}")
        source = found[0][0]
        yield Conversion(source, None, naming.suffix_for(source))
        return
    if "{" in output:
        for index, (source, place) in enumerate(found):
            target = _filled(output, place, index, naming)
            yield Conversion(source, target, _checked_suffix(target, source, naming))
        return
    folder = output.endswith("/") or Path(output).is_dir()
    if not folder and (len(found) > 1 or any(Path(each).is_dir() for each in inputs)):
        if Path(output).suffix.lower() in (*WRITABLE, *FILMS):
            raise CommandError(
                f"-o {output} is one file; for {len(found)} inputs pass a folder, or {{stem}} in the name"
            )
        folder = True
    for source, place in found:
        if not folder:
            _check_folder_of(Path(output))
            yield Conversion(source, Path(output), _checked_suffix(Path(output), source, naming))
            continue
        suffix = naming.suffix_for(source)
        yield Conversion(source, Path(output) / place.parent / f"{place.stem}{naming.added}{suffix}", suffix)


def _check_folder_of(output: Path) -> None:
    if not output.parent.is_dir():
        raise CommandError(f"{output.parent}: no such folder")


def _checked_suffix(target: Path, source: Path | None, naming: Naming) -> str:
    suffix = target.suffix.lower()
    wanted = naming.suffix_for(source)
    if naming.format is not None and PILLOW_FORMATS.get(wanted, wanted) != PILLOW_FORMATS.get(suffix, suffix):
        raise CommandError(f"--format {naming.format}: but the output is {target}; leave one of them to the other")
    if source is not None and source.suffix.lower() in FILMS:
        if suffix not in FILM_TARGETS:
            raise CommandError(f"{target}: the output of a film has one of the suffixes {', '.join(FILM_TARGETS)}")
    else:
        format_of(target)
    return suffix


def _filled(pattern: str, place: Path, index: int, naming: Naming) -> Path:
    try:
        names = {name for _, name, _, _ in Formatter().parse(pattern) if name is not None}
        if unknown := sorted(names - set(FIELDS)):
            raise CommandError(f"-o {pattern}: no field {{{unknown[0]}}}; there are {', '.join(FIELDS)}")
        values = {
            "stem": place.stem,
            "name": place.name,
            "suffix": naming.suffix_for(place),
            "folder": place.parent,
            "index": index,
            "model": naming.model,
        }
        return Path(pattern.format(**values))
    except (ValueError, IndexError) as error:
        raise CommandError(f"-o {pattern}: {error}") from None


def _check(conversions: Sequence[Conversion], force: bool) -> None:
    taken: dict[Path, Conversion] = {}
    sources = {each.source.resolve() for each in conversions if each.source is not None}
    for each in conversions:
        if each.target is None:
            continue
        target = each.target.resolve()
        if other := taken.get(target):
            raise CommandError(
                f"{other} and {each} would both become {each.target}; pass {{folder}} or {{index}} in -o"
            )
        if target in sources and not force:
            raise CommandError(
                f"{each.target} is an input and would be overwritten; pass --suffix, another -o, or --force"
            )
        taken[target] = each
