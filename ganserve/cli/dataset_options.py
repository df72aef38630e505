"""The options of `ganserve dataset` that say how many images of each class, as typed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ganserve.cli.output import CommandError
from ganserve.cli.parsing import RANGE, parse_labels
from ganserve.datasets.contents import Contents, class_index, contents_of, contents_without_classes, missing, spread
from ganserve.datasets.errors import DataSetError

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def read_contents(
    names: Sequence[str], count: int | None, per_class: Iterable[str] | None, balance: Path | None, first_seed: int
) -> Contents:
    """The images of the data set; `names` are the model's classes.

    Raises:
        CommandError: none or several of the options, a text or file that cannot be read.
        DataSetError: no such class, or nothing to generate.
    """
    given = {"--count": count, "--per-class": per_class or None, "--balance-from": balance}
    found = [option for option, value in given.items() if value is not None]
    if len(found) != 1:
        raise CommandError(f"pass one of {', '.join(given)}" + (f", not {' and '.join(found)}" if found else ""))
    if not names:
        if count is None:
            raise CommandError(f"{found[0]}: the model has no classes; pass --count")
        return contents_without_classes(count, first_seed)
    if count is not None:
        return contents_of(spread(count, len(names)), first_seed)
    if per_class:
        return contents_of(_per_class(per_class, names), first_seed)
    assert balance is not None
    try:
        counts = {class_index(name, names): n for name, n in _counted(balance).items()}
        return contents_of(missing(counts), first_seed)
    except DataSetError as error:
        raise CommandError(f"--balance-from {balance}: {error}") from None


def _per_class(texts: Iterable[str], names: Sequence[str]) -> dict[int, int]:
    """`0=500,7=2000`, `cat=10`, `0-9=100`; a name with a comma in it needs an option of its own."""
    counts: dict[int, int] = {}
    for text in texts:
        whole = text.rpartition("=")[0]
        for part in [text] if whole in names else text.split(","):
            name, _, number = part.rpartition("=")
            if not name or not (number.strip().isascii() and number.strip().isdecimal()):
                raise CommandError(f"--per-class {text}: {part!r} must be CLASS=NUMBER, such as 7=2000 or cat=500")
            for label in _labels(name.strip(), names, text):
                if label in counts:
                    raise CommandError(f"--per-class {text}: class {names[label]!r} is given twice")
                counts[label] = int(number)
    return counts


def _labels(name: str, names: Sequence[str], text: str) -> list[int]:
    try:
        given = parse_labels(name) if RANGE.fullmatch(name) and name not in names else [name]
        return [class_index(each, names) for each in given]
    except (DataSetError, ValueError) as error:
        raise CommandError(f"--per-class {text}: {error}") from None


def _counted(path: Path) -> Mapping[str, int]:
    """Images that there are of each class: a JSON file, or a folder with a folder for each class."""
    if path.is_dir():
        classes = sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
        found = {each.name: sum(file.suffix.lower() in IMAGES for file in each.rglob("*")) for each in classes}
        if not found:
            raise CommandError(f"--balance-from {path}: holds no folders, one for each class")
        return found
    try:
        counts = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise CommandError(f"--balance-from {path}: is no JSON: {error}") from None
    whole = isinstance(counts, dict) and all(type(n) is int and n >= 0 for n in counts.values())
    if not whole or not counts:
        raise CommandError(f'--balance-from {path}: must hold an object of classes and numbers, such as {{"7": 120}}')
    return dict(counts)
