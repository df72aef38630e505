"""Seeds and labels as typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganserve.cli.parsing import MAX_VALUES, parse_labels, parse_seeds

SPANS = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 50)), min_size=1, max_size=8)


@given(SPANS, st.sampled_from([",", ", ", " ,"]))
def test_seeds_are_read_as_they_were_written(spans: list[tuple[int, int]], comma: str) -> None:
    text = comma.join(f"{first}-{first + more}" if more else f"{first}" for first, more in spans)
    assert parse_seeds(text) == [seed for first, more in spans for seed in range(first, first + more + 1)]


@given(st.text(max_size=20))
def test_any_text_is_either_read_or_refused_with_a_sentence(text: str) -> None:
    for parse in (parse_seeds, parse_labels):
        try:
            found: object = parse(text)
        except ValueError as error:
            found = str(error)
        assert found


@pytest.mark.parametrize("text", ["", ",", "1,", "a", "1-", "-1", "3-1", "1.5", "1 2", "²", "٣", f"0-{MAX_VALUES + 1}"])
def test_what_is_no_list_of_seeds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_seeds(text)


def test_labels_are_indices_ranges_and_names() -> None:
    assert parse_labels("7,0-3, tiger-cat ,x1-2") == ["7", "0", "1", "2", "3", "tiger-cat", "x1-2"]
