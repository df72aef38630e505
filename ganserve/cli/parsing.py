"""Lists of seeds, labels and numbers as typed: `0-15`, `0,3,7-9`, `3,cat`, `0,0.5,1`."""

import re

RANGE = re.compile(r"(\d+)-(\d+)")
MAX_VALUES = 1_000_000  # a typing error must not fill the memory


def parse_seeds(text: str) -> list[int]:
    """The seeds of `0,3,7-9`, in the order typed, both ends of a range included.

    Raises:
        ValueError: not numbers and ranges, a range that runs backwards, or too many; the text names the part.
    """
    seeds: list[int] = []
    for part in _parts(text):
        found = RANGE.fullmatch(part)
        if found:
            seeds.extend(_span(part, int(found[1]), int(found[2])))
        elif part.isascii() and part.isdecimal():
            seeds.append(int(part))
        else:
            raise ValueError(f"{part!r} is neither a number nor a range like 0-15")
        if len(seeds) > MAX_VALUES:
            raise ValueError(f"{text!r} has more than {MAX_VALUES} seeds")
    return seeds


def parse_labels(text: str) -> list[str]:
    """The labels of `3,7`, `0-9` or `cat,dog`: indices, ranges of indices and class names.

    Raises:
        ValueError: an empty part, a range that runs backwards, or too many.
    """
    labels: list[str] = []
    for part in _parts(text):
        found = RANGE.fullmatch(part)
        labels.extend(map(str, _span(part, int(found[1]), int(found[2]))) if found else [part])
    return labels


def parse_numbers(text: str) -> list[float]:
    """The numbers of `0.7` or `0,0.5,1`.

    Raises:
        ValueError: an empty part or one that is no number; the text names it.
    """
    numbers: list[float] = []
    for part in _parts(text):
        try:
            numbers.append(float(part))
        except ValueError:
            raise ValueError(f"{part!r} is not a number") from None
    return numbers


def _parts(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ValueError(f"{text!r} has an empty part")
    return parts


def _span(part: str, first: int, last: int) -> range:
    if last < first:
        raise ValueError(f"{part!r} runs backwards")
    if last - first >= MAX_VALUES:
        raise ValueError(f"{part!r} has more than {MAX_VALUES} numbers")
    return range(first, last + 1)
