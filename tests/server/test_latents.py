import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server import latents
from server.errors import InvalidRequest

NAMES = ("cat", "dog", "7")
seeds = st.integers(0, latents.SEEDS - 1)


@settings(deadline=None)
@given(st.lists(seeds, min_size=1, max_size=5), st.integers(1, 600))
def test_each_row_is_what_the_stylegan_tools_draw_for_its_seed(chosen: list[int], size: int) -> None:
    drawn = latents.from_seeds(chosen, size)
    for row, seed in zip(drawn, chosen, strict=True):
        expected = np.random.RandomState(seed).randn(1, size).astype(np.float32)
        assert row.tobytes() == expected.tobytes()


def test_latents_sent_as_bytes_come_back_bit_by_bit() -> None:
    sent = np.random.RandomState(1).randn(3, 5).astype("<f4")
    assert latents.from_bytes(sent.tobytes(), 5).tobytes() == sent.tobytes()


@pytest.mark.parametrize("nbytes", [0, 4, 19, 21])
def test_a_byte_count_that_is_no_whole_row_is_refused_with_the_row_size(nbytes: int) -> None:
    with pytest.raises(InvalidRequest, match=rf"latents\.data: {nbytes} bytes is not n x 20"):
        latents.from_bytes(bytes(nbytes), 5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named(bad: float) -> None:
    sent = np.zeros((2, 3), np.float32)
    sent[1, 2] = bad
    with pytest.raises(InvalidRequest, match="row 1, column 2"):
        latents.from_bytes(sent.tobytes(), 3)


def test_one_label_is_for_all_images() -> None:
    found = latents.resolve_labels(["dog"], 3, NAMES)
    assert found is not None
    assert found.tolist() == [1, 1, 1]
    assert found.dtype == np.int64


def test_labels_are_names_or_indices() -> None:
    found = latents.resolve_labels(["2", "cat", "0"], 3, NAMES)
    assert found is not None
    assert found.tolist() == [2, 0, 0]


def test_a_name_that_is_a_number_wins_over_the_index() -> None:
    found = latents.resolve_labels(["7"], 1, NAMES)
    assert found is not None
    assert found.tolist() == [2]


@pytest.mark.parametrize("label", ["3", "-1", "bird", "", "1.0", "²", "99999999999999999999"])
def test_an_unknown_label_is_refused_with_the_range(label: str) -> None:
    with pytest.raises(InvalidRequest, match=r"the model has index 0\.\.2 or name \(cat, dog, 7\)"):
        latents.resolve_labels([label], 1, NAMES)


def test_a_conditional_model_needs_a_label() -> None:
    with pytest.raises(InvalidRequest, match=r"labels: missing.*0\.\.2"):
        latents.resolve_labels([], 2, NAMES)


def test_two_labels_for_three_images_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="labels: 2 given for 3 images"):
        latents.resolve_labels(["cat", "dog"], 3, NAMES)


def test_an_unconditional_model_takes_no_label() -> None:
    assert latents.resolve_labels([], 2, ()) is None
    with pytest.raises(InvalidRequest, match="labels: 1 given, but the model has no classes"):
        latents.resolve_labels(["cat"], 2, ())


def test_truncation_is_the_models_default_unless_asked() -> None:
    default, asked = latents.resolve_truncation(None, 2, 0.7), latents.resolve_truncation(0.25, 2, 0.7)
    assert default is not None
    assert asked is not None
    assert default.tolist() == [np.float32(0.7)] * 2
    assert asked.tolist() == [0.25, 0.25]


def test_truncation_is_refused_where_the_model_has_none() -> None:
    assert latents.resolve_truncation(None, 2, None) is None
    with pytest.raises(InvalidRequest, match=r"truncation: 0\.5 given"):
        latents.resolve_truncation(0.5, 2, None)


def test_truncation_must_be_finite() -> None:
    with pytest.raises(InvalidRequest, match="truncation: nan"):
        latents.resolve_truncation(float("nan"), 1, 1.0)
