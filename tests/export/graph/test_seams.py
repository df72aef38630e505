"""What export promises about the cuts between tiles, measured on networks whose reach is known."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from export.graph.samples import drawing, noise
from export.graph.seams import BUDGET_PX, IMAGES, seam_levels
from models.architecture import Tiling

Pixels = NDArray[np.uint8]


def reaching(radius: int, scale: int = 2) -> Callable[[Pixels], Pixels]:
    """Each pixel becomes the mean of itself and of those `radius` px to the right and below; outside is black."""

    def upscale(images: Pixels) -> Pixels:
        padded = np.pad(images.astype(np.int64), ((0, 0), (0, radius), (0, radius), (0, 0)))
        height, width = images.shape[1:3]
        mean = (images + padded[:, radius:, :width] + padded[:, :height, radius:]) // 3
        return np.asarray(mean.repeat(scale, axis=1).repeat(scale, axis=2), np.uint8)

    return upscale


@pytest.mark.parametrize("multiple", [1, 2, 3])
@pytest.mark.parametrize("overlap", [1, 4, 16])
def test_tiles_that_overlap_by_the_receptive_field_equal_the_whole(overlap: int, multiple: int) -> None:
    measured = seam_levels(reaching(overlap), Tiling(256, overlap, multiple, overlap), 3, 2)
    assert measured == dict.fromkeys(IMAGES, 0.0)


@pytest.mark.parametrize("channels", [1, 3])
def test_one_pixel_less_is_seen_in_every_image(channels: int) -> None:
    measured = seam_levels(reaching(9), Tiling(256, 8, 1, 9), channels, 2)
    assert list(measured) == list(IMAGES)
    assert min(measured.values()) > 40
    assert measured["noise"] == 170, "both of the pixels that it does not see"


def test_what_is_computed_is_bounded_and_every_window_keeps_to_the_multiple() -> None:
    shapes: list[tuple[int, ...]] = []

    def upscale(images: Pixels) -> Pixels:
        shapes.append(images.shape)
        return images

    for overlap, multiple in ((0, 1), (4, 1), (16, 4), (18, 1), (32, 2)):
        shapes.clear()
        seam_levels(upscale, Tiling(256, overlap, multiple, overlap), 3, 1)
        assert sum(height * width for _, height, width, _ in shapes) <= BUDGET_PX
        assert all(size % multiple == 0 for _, height, width, _ in shapes for size in (height, width))
        assert len(shapes) >= 2 * len(IMAGES)


def test_noise_and_drawings_are_full_of_edges_and_always_the_same() -> None:
    assert set(np.unique(noise(40, 50, 3))) == {0, 255}
    for make in (noise, drawing):
        image = make(64, 80, 3)
        assert image.shape == (64, 80, 3)
        assert np.array_equal(image, make(64, 80, 3))
        steps = np.abs(np.diff(image.astype(int), axis=1)).max(axis=2)
        assert (steps > 60).mean() > 0.05
