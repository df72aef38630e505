"""The demo's contact sheet, and what is shown of each kind of model."""

import numpy as np
import pytest
from numpy.typing import NDArray

from demo.contact_sheet import CELL_PX, COLUMNS, GAP_PX, PAPER, Panel, compose_contact_sheet, fit
from demo.gallery import PORTRAIT, show
from ganserve import Client
from ganserve.client.results import ServedModel
from tests.ganserve.fake_server import Fake, image_of


def plain(level: int, height: int = 20, width: int = 20, channels: int = 3) -> NDArray[np.uint8]:
    return np.full((height, width, channels), level, np.uint8)


def model_of(task: str, **fields: object) -> ServedModel:
    """A served model with these fields, the others empty."""
    empty: dict[str, object] = dict.fromkeys(ServedModel.__dataclass_fields__, "")
    numbers = dict.fromkeys(("latent_size", "scale", "height", "width", "input_channels", "channels", "multiple_px"), 0)
    return ServedModel(**{**empty, **numbers, "name": "m", "task": task, "labels": (), "knobs": (), **fields})  # type: ignore[arg-type]


def test_a_small_image_grows_by_whole_pixels_and_a_large_one_shrinks() -> None:
    assert fit(plain(5), 160).size == (160, 160)
    assert fit(plain(5, 28, 28, 1), 160).size == (140, 140)
    assert fit(plain(5, 300, 600), 160).size == (160, 80)
    grown = np.asarray(fit(image_of(1), 12))
    np.testing.assert_array_equal(grown, image_of(1).repeat(2, 0).repeat(2, 1))


def test_transparent_pixels_show_the_paper() -> None:
    assert np.asarray(fit(np.zeros((4, 4, 4), np.uint8), 4)).tolist() == [[list(PAPER)] * 4] * 4


def test_panels_fill_rows_and_a_pair_is_never_torn_apart() -> None:
    single, pair = Panel("a", (plain(1),)), Panel("b", (plain(1), plain(2)))
    five = compose_contact_sheet([single] * (COLUMNS - 1))
    six = compose_contact_sheet([*[single] * (COLUMNS - 1), pair])
    assert five.width == GAP_PX + (COLUMNS - 1) * (CELL_PX + GAP_PX)
    assert (six.width, six.height - five.height) == (five.width, five.height - GAP_PX)


def test_a_panels_images_stand_side_by_side_over_a_title() -> None:
    sheet = np.asarray(compose_contact_sheet([Panel("a long title that must be made to fit", (plain(10), plain(200)))]))
    middle = GAP_PX + CELL_PX // 2
    assert sheet[middle, middle].tolist() == [10, 10, 10]
    assert sheet[middle, middle + CELL_PX + GAP_PX].tolist() == [200, 200, 200]
    below = sheet[GAP_PX + CELL_PX :]
    assert (below < 128).any()
    assert (below[:, [0, -1]] == 255).all(), "the title keeps within its panel"


def test_no_panel_is_no_sheet() -> None:
    with pytest.raises(ValueError, match="at least one panel"):
        compose_contact_sheet([])


def test_a_generator_is_shown_by_seeds_and_its_classes_in_turn(fake: Fake) -> None:
    with Client(fake.server) as client:
        exhibit = show(client, model_of("class-conditional", labels=("cat", "dog"), width=6, height=4), PORTRAIT)
    request = fake.service.requests[-1]
    assert list(request.seeds.values) == list(range(16))
    assert list(request.labels) == ["0", "1"] * 8
    first = [np.concatenate([image_of(seed), image_of(seed + 1)], 1) for seed in (0, 2)]
    np.testing.assert_array_equal(exhibit.panel.images[0], np.concatenate(first))
    assert exhibit.panel.title == "m, seeds 0-3"
    assert exhibit.sheet.shape == (4 * 6 - 2, 4 * 8 - 2, 3)


def test_an_upscaler_is_shown_by_the_middle_of_the_image_before_and_after(fake: Fake) -> None:
    with Client(fake.server) as client:
        exhibit = show(client, model_of("super-resolution", scale=2), PORTRAIT)
    before, after = exhibit.panel.images
    assert (before.shape, after.shape) == ((128, 128, 3), (256, 256, 3))
    np.testing.assert_array_equal(after, before.repeat(2, 0).repeat(2, 1))
    assert exhibit.panel.title == "m x2"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_translator_is_shown_with_its_input_in_the_channels_it_accepts(fake: Fake, channels: int) -> None:
    with Client(fake.server) as client:
        exhibit = show(client, model_of("image-to-image", scale=1, input_channels=channels), PORTRAIT)
    before, after = exhibit.panel.images
    assert before.shape == (128, 128, channels)
    np.testing.assert_array_equal(after, 255 - before)
