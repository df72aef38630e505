"""Which shapes the server runs: what is warmed, what engines are built for and how images are cut must agree."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifact.shapes import ANY_SIZE, Sides, has_free_sizes, round_up, served_shapes, sized, tile_sizes
from artifact.spec import ShapeRange, Spec, TensorRTPlan, TensorSpec, Tile
from server.images import tiling
from server.repository.warmup import shapes_to_warm
from tests.server.graphs import write_translator

IMAGE = TensorSpec("image", "UINT8", (-1, -1, 3))
LATENT = TensorSpec("latent", "FP32", (4,))


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    """A translator of images whose sides are multiples of 4."""
    return write_translator(tmp_path, "t")


def test_a_size_is_rounded_up_to_the_next_multiple() -> None:
    assert [round_up(size, 8) for size in (0, 1, 8, 9)] == [0, 8, 8, 16]


def test_sides_come_from_the_tile_or_else_from_the_whole_image(spec: Spec) -> None:
    assert Sides.of(None) == ANY_SIZE == Sides(1, 1, None)
    assert Sides.of(spec) == Sides(4, spec.least_px, None)
    tiled = replace(spec, tile=Tile(96, 8, 2, 8, 0.0))
    assert Sides.of(tiled) == Sides(2, spec.least_px, 96)


def test_free_axes_alone_are_sized() -> None:
    assert has_free_sizes((LATENT, IMAGE))
    assert not has_free_sizes((LATENT,))
    assert (sized(IMAGE, 8), sized(LATENT, 8)) == ((8, 8, 3), (4,))


def test_a_graph_without_a_batch_axis_has_shapes_without_one() -> None:
    assert served_shapes((LATENT,), ANY_SIZE, 0) == {"latent": ShapeRange((4,), (4,), (4,))}
    assert served_shapes((LATENT,), ANY_SIZE, 8) == {"latent": ShapeRange((1, 4), (8, 4), (8, 4))}


@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    multiple=st.sampled_from([1, 2, 4, 7]),
    tile_px=st.integers(72, 400),
)
def test_every_tile_that_is_cut_is_a_served_shape(height: int, width: int, multiple: int, tile_px: int) -> None:
    grid = tiling.tile_grid(height, width, Tile(tile_px, 16, multiple, 16, 0.0))
    sides = Sides(multiple, 1, tile_px)
    served = served_shapes((IMAGE,), sides, 8)["image"]
    assert served.contains((8, grid.tile_height, grid.tile_width, 3))
    assert grid.tile_height <= sides.max_px
    assert sides.max_px % multiple == 0


@pytest.mark.parametrize("tile_px", [96, 98])
def test_what_a_gpu_warms_is_a_served_shape_even_if_the_tile_is_no_multiple(spec: Spec, tile_px: int) -> None:
    tiled = replace(spec, tile=Tile(tile_px, 8, 4, 8, 0.0))
    (warmed,) = shapes_to_warm((IMAGE,), tiled, on_gpu=True, is_plan=False)
    served = served_shapes((IMAGE,), Sides.of(tiled), 2)["image"]
    assert served.contains((2, *warmed["image"]))
    assert warmed["image"] == served.opt[1:] == (96, 96, 3)


def test_tiles_have_any_size_up_to_the_largest_or_the_graphs_own(spec: Spec) -> None:
    tiled = replace(spec, tile=Tile(98, 8, 4, 8, 0.0))
    assert tile_sizes(tiled) == (ShapeRange((4, 4), (96, 96), (96, 96)),)
    wide = replace(tiled, inputs=(TensorSpec("image", "UINT8", (64, -1, 3)),))
    assert tile_sizes(wide) == (ShapeRange((64, 4), (64, 96), (64, 96)),)


def test_an_engines_profiles_limit_its_tiles(spec: Spec) -> None:
    """An engine built for tiles of up to 64 px, and one of a single size, next to a manifest with larger tiles."""
    profiles = tuple(
        {"image": ShapeRange((1, low, low, 3), (2, high, high, 3), (8, high, high, 3))}
        for low, high in ((4, 64), (80, 80), (88, 512))
    )
    plan = TensorRTPlan("rtx", "1", (), "fp32", "0" * 64, profiles)
    tile = Tile(96, 8, 4, 8, 0.0)
    tiled = replace(spec, tile=tile, plan=plan)
    expected = [((4, 4), (64, 64)), ((80, 80), (80, 80)), ((88, 88), (96, 96))]
    assert [(each.min, each.max) for each in tile_sizes(tiled)] == expected
    for side in (30, 64, 80, 92, 300):
        grid = tiling.tile_grid(side, side, tile, tile_sizes(tiled))
        shape = (8, grid.tile_height, grid.tile_width, 3)
        assert any(profile["image"].contains(shape) for profile in profiles)
