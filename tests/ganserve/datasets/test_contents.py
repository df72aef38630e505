"""Which images a data set has, and what its files and folders are called."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganserve.cli.dataset_options import read_contents
from ganserve.cli.output import CommandError
from ganserve.datasets.contents import MAX_IMAGES, Contents, class_text, contents_of
from ganserve.datasets.description import Description, folder_name
from ganserve.datasets.errors import DataSetError

DIGITS = tuple("0123456789")


@given(st.dictionaries(st.integers(0, 30), st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 12))
def test_shards_are_all_images_once_with_an_even_share_of_each_class(counts: dict[int, int], shards: int) -> None:
    contents = contents_of(counts, 5)
    parts = [contents.shard(index, shards) for index in range(shards)]
    assert [index for part in parts for index in part] == list(range(contents.total))
    assert contents.labels is not None
    for label, count in counts.items():
        assert int((contents.labels == label).sum()) == count
        for part in parts:
            found = int((contents.labels[part.start : part.stop] == label).sum())
            assert abs(found - count * len(part) / contents.total) <= len(counts)


def contents(
    text: list[str] | None = None,
    names: tuple[str, ...] = DIGITS,
    count: int | None = None,
    balance: Path | None = None,
    first_seed: int = 0,
) -> Contents:
    return read_contents(names, count, text, balance, first_seed)


@pytest.mark.parametrize(
    ("texts", "names", "counts"),
    [
        (["0=500,7=2000"], DIGITS, {0: 500, 7: 2000}),
        (["0-2=4", "9=1"], DIGITS, {0: 4, 1: 4, 2: 4, 9: 1}),
        (["3=0, 4=2"], DIGITS, {4: 2}),
        (["dog=3"], ("cat", "dog"), {1: 3}),
        (["tench, Tinca tinca=3", "1=2"], ("tench, Tinca tinca", "1"), {0: 3, 1: 2}),
        (["1=5"], ("1", "0"), {0: 5}),  # a name comes before an index
        (["0-9=5"], ("0-9", "a"), {0: 5}),
        (["a=b=5"], ("a=b", "a"), {0: 5}),
    ],
)
def test_classes_are_named_as_the_server_names_them(
    texts: list[str], names: tuple[str, ...], counts: dict[int, int]
) -> None:
    assert contents(texts, names=names).counts == counts


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["10=5"], "no class '10'; the model has index 0..9 or name (0, 1"),
        (["x=5"], "no class 'x'"),
        (["5"], "must be CLASS=NUMBER"),
        (["5=many"], "must be CLASS=NUMBER"),
        (["5=-1"], "must be CLASS=NUMBER"),
        (["5=1,"], "must be CLASS=NUMBER"),
        (["5=1,5=2"], "class '5' is given twice"),
        (["9-0=1"], "runs backwards"),
        (["0=0"], "0 images"),
        ([f"0={MAX_IMAGES + 1}"], f"at most {MAX_IMAGES}"),
    ],
)
def test_a_wrong_class_or_number_is_named(texts: list[str], says: str) -> None:
    with pytest.raises((CommandError, DataSetError), match=re.escape(says)):
        contents(texts)


def test_a_count_is_spread_over_the_classes() -> None:
    assert contents(count=23).counts == {label: 3 if label < 3 else 2 for label in range(10)}
    assert contents(count=23, names=()).labels is None


def test_seeds_end_where_they_end() -> None:
    assert contents(count=10, first_seed=2**32 - 10).total == 10
    with pytest.raises(DataSetError, match="11 images from seed 4294967286 need seeds above 4294967295"):
        contents(count=11, first_seed=2**32 - 10)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "pass one of --count, --per-class, --balance-from"),
        ({"count": 1, "text": ["1=2"]}, "not --count and --per-class"),
        ({"text": ["1=2"], "names": ()}, "--per-class: the model has no classes; pass --count"),
    ],
)
def test_one_option_says_what_to_generate(given: dict[str, Any], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        contents(**given)


def test_classes_are_filled_up_to_the_largest(tmp_path: Path) -> None:
    here = tmp_path
    counts = here / "counts.json"
    counts.write_text('\ufeff{"0": 500, "7": 20, "3": 500}', encoding="utf-8")
    assert contents(balance=counts).counts == {7: 480}
    for label, n in {"1": 3, "8": 1}.items():
        (here / "real" / label).mkdir(parents=True)
        for index in range(n):
            (here / "real" / label / f"{index}.PNG").touch()
        (here / "real" / label / "notes.txt").touch()
    assert contents(balance=here / "real").counts == {8: 2}
    wrong = {"[1]": "must hold an object", '{"7": 1.5}': "must hold an object", "{": "no JSON", '{"x": 1}': "no class"}
    wrong |= {'{"1": 2, "2": 2}': "all 2 classes have 2 images", "{}": "must hold an object"}
    for text, says in wrong.items():
        counts.write_text(text)
        with pytest.raises(CommandError, match=says):
            contents(balance=counts)


def described(names: tuple[str, ...]) -> Description:
    return Description("m/odel", "1", "", (4, 4, 3), names, contents_of({0: 1}, 0), 1, "imagefolder")


def test_folders_are_names_that_every_file_system_takes() -> None:
    assert folder_name("tench, Tinca tinca") == "tench, Tinca tinca"
    assert folder_name("a/b\\c\n%") == "a%2Fb%5Cc%0A%25"
    assert folder_name("..") == "%2E"
    assert folder_name("") == "%2E"
    assert len(folder_name("ü" * 300).encode()) <= 200
    names = ("crane", "Crane", "..", "x" * 300 + "1", "x" * 300 + "2", "b")
    folders = [described(names).folder_of(label) for label in range(len(names))]
    assert len({name.casefold() for name in folders}) == len(names)
    assert folders[-1] == "b"
    assert not any(name.startswith(".") or "/" in name for name in folders)
    assert described(names).folder_of(None) == "m%2Fodel"


def test_a_class_is_sent_by_a_text_that_means_no_other() -> None:
    names = ("a", "b", "a")
    assert [class_text(names, label) for label in range(3)] == ["a", "b", "2"]


def test_every_file_has_a_name_of_one_length() -> None:
    contents = Contents({}, 10, 2**32 - 10)
    about = Description("m", "1", "", (4, 4, 3), (), contents, 1, "imagefolder")
    assert {len(about.name_of(index)) for index in range(10)} == {10}
    assert np.array_equal(list(contents.shard(0, 3)), [0, 1, 2])
