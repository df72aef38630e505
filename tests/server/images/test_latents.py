from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifact.spec import Parity, Provenance, Spec, Task, TensorSpec
from server.errors import InvalidRequest
from server.images import latents

PLAIN = Spec(
    task=Task.UNCONDITIONAL,
    architecture="made up",
    hyperparameters={},
    tensors="uint8",
    precision="fp32",
    opset=18,
    inputs=(TensorSpec("latent", "FP32", (5,)),),
    outputs=(TensorSpec("image", "UINT8", (2, 2, 3)),),
    image_shape=(2, 2, 3),
    provenance=Provenance("made up", "MIT", "0" * 64),
    parity=Parity(1.0, 0.0, (1,), (0,)),
    latent_size=5,
)
TRUNCATED = replace(PLAIN, truncation_default=0.7)
NOISY = replace(PLAIN, noise_size=7)
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
def test_a_byte_count_that_is_no_whole_row_is_rejected_with_the_row_size(nbytes: int) -> None:
    with pytest.raises(InvalidRequest, match=rf"latents\.data: {nbytes} bytes is not n x 20"):
        latents.from_bytes(bytes(nbytes), 5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named(bad: float) -> None:
    sent = np.zeros((2, 3), np.float32)
    sent[1, 2] = bad
    with pytest.raises(InvalidRequest, match="item 1, value 2"):
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
def test_an_unknown_label_is_rejected_with_the_range(label: str) -> None:
    with pytest.raises(InvalidRequest, match=r"the model has index 0\.\.2 or name \(cat, dog, 7\)"):
        latents.resolve_labels([label], 1, NAMES)


def test_a_conditional_model_needs_a_label() -> None:
    with pytest.raises(InvalidRequest, match=r"labels: missing.*0\.\.2"):
        latents.resolve_labels([], 2, NAMES)


def test_two_labels_for_three_images_are_rejected() -> None:
    with pytest.raises(InvalidRequest, match="labels: 2 given for 3 images"):
        latents.resolve_labels(["cat", "dog"], 3, NAMES)


def test_an_unconditional_model_takes_no_label() -> None:
    assert latents.resolve_labels([], 2, ()) is None
    with pytest.raises(InvalidRequest, match="labels: 1 given, but the model has no classes"):
        latents.resolve_labels(["cat"], 2, ())


def test_truncation_is_the_models_default_unless_asked() -> None:
    for asked, expected in (([], [0.7, 0.7]), ([0.25], [0.25, 0.25]), ([0.25, -2.0], [0.25, -2.0])):
        found = latents.resolve_truncation(asked, 2, TRUNCATED)
        assert found is not None
        assert found.tolist() == [np.float32(psi) for psi in expected]


def test_truncation_is_rejected_where_the_model_has_none() -> None:
    assert latents.resolve_truncation([], 2, PLAIN) is None
    with pytest.raises(InvalidRequest, match=r"truncations: 0\.5 given"):
        latents.resolve_truncation([0.5], 2, PLAIN)


@pytest.mark.parametrize("psi", [float("nan"), float("inf"), 2.5, -2.1])
def test_truncation_keeps_to_the_models_range(psi: float) -> None:
    with pytest.raises(InvalidRequest, match=rf"truncations: {psi:g}; must be -2\.\.2"):
        latents.resolve_truncation([0.5, psi], 2, TRUNCATED)
    narrow = replace(TRUNCATED, truncation_range=(0.02, 1.0))
    with pytest.raises(InvalidRequest, match=r"must be 0\.02\.\.1"):
        latents.resolve_truncation([0.01], 1, narrow)


def test_one_psi_is_for_all_images_and_two_are_not_for_three() -> None:
    with pytest.raises(InvalidRequest, match="truncations: 2 given for 3 images"):
        latents.resolve_truncation([0.5, 0.6], 3, TRUNCATED)


@settings(deadline=None)
@given(st.lists(seeds, min_size=1, max_size=4), st.integers(1, 60), st.integers(1, 300))
def test_latent_and_noise_of_a_seed_are_one_stream_cut_in_two(chosen: list[int], z: int, k: int) -> None:
    spec = replace(PLAIN, latent_size=z, noise_size=k)
    noise = latents.resolve_noise([], len(chosen), chosen, spec)
    assert noise is not None
    for row, seed in enumerate(chosen):
        stream = np.random.RandomState(seed).randn(1, z + k).astype(np.float32)
        assert latents.from_seeds([seed], z).tobytes() == stream[:, :z].tobytes()
        assert noise.of_image(row).tobytes() == stream[:, z:].tobytes()


def test_noise_may_come_from_another_seed_for_all_or_for_each() -> None:
    for asked, own, expected in (
        ([], [5, 6], [5, 6]),
        ([9], [5, 6], [9, 9]),
        ([9, 8], [5, 6], [9, 8]),
        ([], None, [0, 0]),
    ):
        noise = latents.resolve_noise(asked, 2, own, NOISY)
        assert noise is not None
        assert list(noise.seeds) == expected
    with pytest.raises(InvalidRequest, match="noise_seeds: 2 given for 3 images"):
        latents.resolve_noise([1, 2], 3, None, NOISY)


def test_a_model_without_noise_takes_no_noise_seed() -> None:
    assert latents.resolve_noise([], 2, None, PLAIN) is None
    with pytest.raises(InvalidRequest, match="noise_seeds: 1 given, but the model takes no noise"):
        latents.resolve_noise([1], 2, None, PLAIN)


def test_w_is_one_row_for_all_layers_or_one_for_each() -> None:
    one = np.arange(6, dtype="<f4").reshape(2, 3)
    assert np.array_equal(latents.ws_from_bytes(one.tobytes(), False, (4, 3)), one[:, None].repeat(4, axis=1))
    every = np.arange(24, dtype="<f4").reshape(2, 4, 3)
    assert np.array_equal(latents.ws_from_bytes(every.tobytes(), True, (4, 3)), every)
    with pytest.raises(InvalidRequest, match=r"ws\.data: 40 bytes is not n x 48"):
        latents.ws_from_bytes(bytes(40), True, (4, 3))
    with pytest.raises(InvalidRequest, match=r"ws\.data: item 1, value 0 is nan"):
        latents.ws_from_bytes(np.array([0, np.nan], "<f4").tobytes(), False, (4, 1))
