"""Paths go through their keys, in even steps, along the curve that is asked for."""

import numpy as np
import pytest

from ganserve import InvalidRequest, interpolate, latents_of
from ganserve.client.paths import CURVES, Curve

KEYS = np.random.RandomState(0).randn(3, 8)


@pytest.mark.parametrize("curve", CURVES)
def test_a_loop_passes_every_key_and_comes_back(curve: Curve) -> None:
    found = interpolate(KEYS, 12, curve)
    np.testing.assert_allclose(found[::4], KEYS, atol=1e-6)
    steps = np.linalg.norm(np.diff(np.concatenate([found, found[:1]]), axis=0), axis=1)
    assert steps.max() < 4 * np.median(steps), "no jump anywhere, nor where it closes"


@pytest.mark.parametrize("curve", CURVES)
def test_an_open_path_ends_with_the_last_key(curve: Curve) -> None:
    found = interpolate(KEYS, 9, curve, loop=False)
    np.testing.assert_allclose(found[[0, 4, 8]], KEYS, atol=1e-6)


def test_an_arc_keeps_its_distance_from_the_middle() -> None:
    found = interpolate([[3.0, 0], [0, 3.0]], 7, "slerp", loop=False)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 3, atol=1e-6)
    np.testing.assert_allclose(found[2], [3 * np.cos(np.pi / 6), 3 * np.sin(np.pi / 6)], atol=1e-6)


def test_equal_opposite_and_missing_directions_are_joined_by_lines() -> None:
    for one, other in (([1.0, 0], [2.0, 0]), ([1.0, 0], [-1.0, 0]), ([0.0, 0], [1.0, 0])):
        found = interpolate([one, other], 5, "slerp", loop=False)
        np.testing.assert_allclose(found, interpolate([one, other], 5, "lerp", loop=False), atol=1e-6)


def test_a_spline_has_no_corners() -> None:
    found = interpolate([[0.0], [1.0], [0.0], [-1.0]], 400, "cubic").ravel()
    assert np.abs(np.diff(found, 2)).max() < 0.001
    np.testing.assert_allclose(found[50], 0.5 + 0.125, atol=1e-3)


def test_what_is_no_path_is_refused() -> None:
    for keys, frames, curve in (([], 3, "lerp"), ([[1.0]], 0, "lerp"), ([[1.0]], 3, "circle")):
        with pytest.raises(InvalidRequest):
            interpolate(keys, frames, curve)  # type: ignore[arg-type]


def test_latents_of_seeds_are_the_servers() -> None:
    expected = np.random.RandomState(7).randn(1, 5).astype(np.float32)
    np.testing.assert_array_equal(latents_of([7, 9], 5)[:1], expected)
