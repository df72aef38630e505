import numpy as np
import pytest
from PIL import Image

from server.images.rows import Canvas, Resampler

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
