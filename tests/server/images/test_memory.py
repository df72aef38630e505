"""The estimates of memory, against what decoding and encoding really take."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from server.errors import Overloaded
from server.images import memory
from server.images.codecs import Encoding
from server.images.header import Format, read_header
from server.images.memory import Hold, MemoryBudget

WIDTH, HEIGHT = 2000, 1500
# The most that the process held while it ran `work`, in bytes. A fresh process: another's free memory would be used.
MEASURE = """
import sys
import numpy as np
from server.images import codecs, cutouts
from server.images.header import Format, read_header

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

what, path = sys.argv[1:3]
data = open(path, "rb").read()
if what == "decode":
    header = read_header(data)
    work = lambda: codecs.decode(data, header)
elif what == "spread":
    pixels = np.load(path)
    work = lambda: cutouts.spread_colours(pixels[..., :-1], pixels[..., -1:])
else:
    image = codecs.DecodedImage(np.load(path))
    work = lambda: codecs.encode(image, codecs.Encoding.of(Format(what), None))
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
result = work()
print(status("VmHWM") - before)
"""


def measured(what: str, path: Path) -> float:
    """Bytes per pixel."""
    command = [sys.executable, "-c", MEASURE, what, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    return int(done.stdout) / (WIDTH * HEIGHT)


def noise(channels: int) -> Any:
    coarse = np.random.RandomState(0).randint(0, 256, (HEIGHT // 4, WIDTH // 4, channels)).astype(np.uint8)
    return np.ascontiguousarray(coarse.repeat(4, axis=0).repeat(4, axis=1))


FILES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "JPEG": (noise(3), "JPEG", {"quality": 90}),
    "JPEG grey": (noise(1)[..., 0], "JPEG", {"quality": 90}),
    "JPEG progressive": (noise(3), "JPEG", {"progressive": True, "subsampling": 0}),
    "JPEG CMYK": (Image.fromarray(noise(4), "RGBA").convert("RGB").convert("CMYK"), "JPEG", {}),
    "PNG": (noise(3), "PNG", {}),
    "PNG alpha": (noise(4), "PNG", {}),
    "PNG palette": (Image.fromarray(noise(3)).quantize(64), "PNG", {}),
    "PNG transparent colour": (noise(3), "PNG", {"transparency": (1, 2, 3)}),
    "PNG 16 bits": (noise(1)[..., 0].astype(np.uint16) << 8, "PNG", {}),
    "WebP": (noise(3), "WEBP", {}),
    "WebP alpha": (noise(4), "WEBP", {}),
    "WebP lossless": (noise(4), "WEBP", {"lossless": True}),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", FILES)
def test_decoding_takes_no_more_than_is_counted(tmp_path: Path, kind: str) -> None:
    source, format_, options = FILES[kind]
    image = source if isinstance(source, Image.Image) else Image.fromarray(source)
    image.save(tmp_path / "image", format_, **options)
    header = read_header((tmp_path / "image").read_bytes())
    assert measured("decode", tmp_path / "image") < memory.decode_bytes(header) * 1.05


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", [Format.PNG, Format.JPEG, Format.WEBP])
def test_encoding_takes_no_more_than_is_counted(tmp_path: Path, kind: Format, channels: int) -> None:
    if kind is Format.JPEG and channels == 4:
        return
    np.save(tmp_path / "image.npy", noise(channels))
    assert measured(kind, tmp_path / "image.npy") < memory.encode_bytes(Encoding.of(kind, None), channels) * 1.05


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("every", [3, 5, 400])
def test_spreading_colours_takes_no_more_than_is_counted(tmp_path: Path, every: int, channels: int) -> None:
    pixels = noise(channels)
    pixels[..., -1] = 0
    pixels[1::every, 1::every, -1] = 255  # far apart, so that many pixels are filled at once
    np.save(tmp_path / "image.npy", pixels)
    assert measured("spread", tmp_path / "image.npy") < (channels - 1 + memory._SPREAD_BYTES) * 1.05


def test_what_is_held_is_given_back_and_whoever_is_alone_fits() -> None:
    budget = MemoryBudget(100)
    first, second = Hold(budget), Hold(budget)
    first.take(500)
    with pytest.raises(Overloaded, match=r"needs 1 bytes of memory, others hold 500, limit 100 \(max_held_bytes\)"):
        second.take(1)
    first.shrink(60)
    second.take(40)
    with pytest.raises(Overloaded, match="needs 41 bytes of memory, others hold 60"):
        second.take(1)
    first.release()
    second.take(60)
    second.release()
    second.release()
    assert budget.held_bytes == 0
