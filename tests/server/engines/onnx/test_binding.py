"""Memory that is allocated once and used by every run."""

from pathlib import Path

import numpy as np

from server.engines.base import CPU
from server.engines.onnx.binding import BoundSession
from server.engines.onnx.session import (
    CPU_PROVIDER,
    open_session,
    specs,
)
from tests.server.engines.onnx.conftest import latents


def bound_session(path: Path, max_items: int, max_shapes: int) -> BoundSession:
    session = open_session(path, [(CPU_PROVIDER, {})], 1)
    inputs, outputs = specs(session.get_inputs(), True), specs(session.get_outputs(), True)
    return BoundSession(session, inputs, outputs, CPU, max_items, max_shapes)


def test_bound_runs_give_the_bytes_of_plain_ones(tiny: Path) -> None:
    plain, bound = open_session(tiny, [(CPU_PROVIDER, {})], 1), bound_session(tiny, 8, 8)
    for seed, rows in enumerate([8, 1, 3, 8, 2, 1, 3]):
        arrays = latents(rows, seed)
        np.testing.assert_array_equal(bound.run(arrays)["image"], plain.run(None, arrays)[0])
    assert list(bound.bound) == [((8, 4),), ((1, 4),), ((3, 4),), ((2, 4),)]


def test_images_of_free_size_are_bound_too(translator: Path) -> None:
    plain, bound = open_session(translator, [(CPU_PROVIDER, {})], 1), bound_session(translator, 2, 4)
    for rows, height, width in [(1, 8, 8), (2, 8, 8), (1, 16, 8), (1, 8, 8), (2, 8, 8), (1, 16, 8)]:
        arrays = {"image": np.random.RandomState(rows).randint(0, 256, (rows, height, width, 3), np.uint8)}
        np.testing.assert_array_equal(bound.run(arrays)["translated"], plain.run(None, arrays)[0])


def test_the_memory_of_a_shape_stays_where_it_is(tiny: Path) -> None:
    bound = bound_session(tiny, 8, 8)
    bound.run(latents(3))
    binding = bound.bound[((3, 4),)]
    before = [value.data_ptr() for value in (*binding.inputs.values(), *binding.outputs.values())]
    bound.run(latents(3, seed=1))
    assert bound.bound[((3, 4),)] is binding
    assert [value.data_ptr() for value in (*binding.inputs.values(), *binding.outputs.values())] == before


def test_every_batch_size_shares_the_memory_of_the_largest(tiny: Path) -> None:
    bound = bound_session(tiny, 8, 8)
    for rows in range(1, 9):
        bound.run(latents(rows))
    assert len({binding.inputs["latent"].data_ptr() for binding in bound.bound.values()}) == 1
    assert len({binding.outputs["image"].data_ptr() for binding in bound.bound.values()}) == 1


def test_a_result_is_not_written_to_by_later_runs(tiny: Path) -> None:
    bound = bound_session(tiny, 8, 8)
    bound.run(latents(2))
    first = bound.run(latents(2, seed=1))["image"]
    kept = first.copy()
    bound.run(latents(2, seed=2))
    bound.run(latents(8, seed=3))
    np.testing.assert_array_equal(first, kept)


def test_shapes_beyond_the_warmed_ones_run_unbound(tiny: Path) -> None:
    plain, bound = open_session(tiny, [(CPU_PROVIDER, {})], 1), bound_session(tiny, 8, 2)
    for rows in (1, 2, 3):
        arrays = latents(rows)
        np.testing.assert_array_equal(bound.run(arrays)["image"], plain.run(None, arrays)[0])
    assert set(bound.bound) == {((1, 4),), ((2, 4),)}


def test_an_array_that_is_not_contiguous_is_read_as_it_is(tiny: Path) -> None:
    bound = bound_session(tiny, 8, 8)
    wide = np.random.RandomState(0).randn(4, 8).astype(np.float32)
    arrays = {"latent": wide[::2, ::2]}
    straight = {"latent": np.ascontiguousarray(arrays["latent"])}
    np.testing.assert_array_equal(bound.run(arrays)["image"], bound.run(straight)["image"])
