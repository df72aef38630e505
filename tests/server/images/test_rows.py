import numpy as np
import pytest
from PIL import Image

from server.images import rows
from server.images.rows import Canvas, Resampler, resize
from server.images.workers import Left

LANCZOS = Image.Resampling.LANCZOS


@pytest.mark.parametrize(
    ("width", "height", "new_width", "new_height", "rows_first"),
    [(90, 60, 112, 75, False), (60, 90, 31, 200, False), (20, 1000, 300, 70, True)],
)
def test_strips_of_noise_are_resampled_as_the_whole_is_one_side_after_the_other(
    width: int, height: int, new_width: int, new_height: int, rows_first: bool
) -> None:
    sent = np.random.RandomState(0).randint(0, 256, (height, width), np.uint8)
    between = (width, new_height) if rows_first else (new_width, height)
    whole = np.asarray(Image.fromarray(sent).resize(between, LANCZOS).resize((new_width, new_height), LANCZOS))
    canvas = Canvas((new_height, new_width, 1), np.uint8)
    resampler = Resampler((height, width, 1), new_height, new_width, canvas)
    for top in range(0, height, 7):
        resampler.write(sent[top : top + 7, :, None])
    assert np.abs(canvas.pixels[..., 0].astype(int) - whole).max() <= 1, "what is cut off between the sides is the same"


@pytest.mark.parametrize("size", [(5, 4), (1, 300), (200, 1)])
def test_a_strip_is_resampled_in_pieces_between_which_the_work_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    height, width = size
    pixels = np.random.RandomState(0).randint(0, 256, (90, 70, 4)).astype(np.uint8)
    whole = resize(pixels, width, height, rows_first=width > 70)
    monkeypatch.setattr(rows, "PIECE_PX", 500)
    looks: list[int] = []
    monkeypatch.setattr(rows, "check_time", lambda: looks.append(1))
    np.testing.assert_array_equal(resize(pixels, width, height, rows_first=width > 70), whole)
    assert len(looks) > 10

    def stop() -> None:
        raise Left

    monkeypatch.setattr(rows, "check_time", stop)
    with pytest.raises(Left):
        resize(pixels, width, height)
