"""Estimates of memory against what decoding and encoding take: at most 5 % and 4 MiB too low, 20 % too high."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from server.errors import Overloaded
from server.images import codecs, memory
from server.images.codecs import Encoding
from server.images.header import Format, Header, read_header
from server.images.memory import Hold, MemoryBudget

WIDTH, HEIGHT = 2000, 1500
MOST = 1.2
ROUNDED_BYTES = 4 << 20  # what the allocator's arena takes at once
# The most that the process held while it ran `work`, in bytes. A fresh process: another's free memory would be used.
MEASURE = """
import sys
import numpy as np
from server import allocator
from server.images import codecs, cutouts
from server.images.header import Format, read_header

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

what, path, bits = sys.argv[1], sys.argv[2], int(sys.argv[3])
allocator.configure()
data = open(path, "rb").read()
if what == "decode":
    header = read_header(data)
    work = lambda: codecs.decode(data, header, bits)
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
print(status("VmHWM") - before, len(result) if isinstance(result, bytes) else 0)
"""


def measured(what: str, path: Path, bits: int = 8) -> tuple[float, float]:
    """Bytes per pixel, and how many of them are the encoded image."""
    command = [sys.executable, "-c", MEASURE, what, str(path), str(bits)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    peak, encoded = done.stdout.split()
    return int(peak) / (WIDTH * HEIGHT), int(encoded) / (WIDTH * HEIGHT)


def image(channels: int) -> Any:
    """Neither even nor noise."""
    coarse = noise(channels)[: HEIGHT // 4, : WIDTH // 4]
    return np.ascontiguousarray(coarse.repeat(4, axis=0).repeat(4, axis=1))


def noise(channels: int) -> Any:
    """What cannot be compressed."""
    return np.random.RandomState(0).randint(0, 256, (HEIGHT, WIDTH, channels)).astype(np.uint8)


def check(counted: float, taken: float) -> None:
    assert taken < counted * 1.05 + ROUNDED_BYTES / (WIDTH * HEIGHT)
    assert counted < taken * MOST + 1, "bytes are whole"


FILES: dict[str, tuple[Callable[[], Any], str, dict[str, Any]]] = {
    "JPEG": (lambda: image(3), "JPEG", {"quality": 90}),
    "JPEG grey": (lambda: image(1)[..., 0], "JPEG", {"quality": 90}),
    "JPEG progressive": (lambda: image(3), "JPEG", {"progressive": True, "subsampling": 0}),
    "JPEG CMYK": (lambda: Image.fromarray(image(4), "RGBA").convert("RGB").convert("CMYK"), "JPEG", {}),
    "PNG": (lambda: image(3), "PNG", {}),
    "PNG grey": (lambda: image(1)[..., 0], "PNG", {}),
    "PNG grey alpha": (lambda: Image.fromarray(image(2)), "PNG", {}),
    "PNG alpha": (lambda: image(4), "PNG", {}),
    "PNG palette": (lambda: Image.fromarray(image(3)).quantize(64), "PNG", {}),
    "PNG transparent colour": (lambda: image(3), "PNG", {"transparency": (1, 2, 3)}),
    "PNG 1 bit": (lambda: Image.fromarray(image(1)[..., 0]).convert("1"), "PNG", {}),
    "PNG 16 bits": (lambda: image(1)[..., 0].astype(np.uint16) << 8, "PNG", {}),
    "WebP": (lambda: image(3), "WEBP", {}),
    "WebP alpha": (lambda: image(4), "WEBP", {}),
    "WebP lossless": (lambda: image(3), "WEBP", {"lossless": True}),
    "WebP lossless alpha": (lambda: noise(4), "WEBP", {"lossless": True, "method": 0}),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", FILES)
def test_decoding_takes_what_is_counted(tmp_path: Path, kind: str) -> None:
    make, format_, options = FILES[kind]
    source = make()
    decoded = source if isinstance(source, Image.Image) else Image.fromarray(source)
    decoded.save(tmp_path / "image", format_, **options)
    header = read_header((tmp_path / "image").read_bytes())
    check(memory.decode_bytes(header), measured("decode", tmp_path / "image")[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [Format.PNG, Format.JPEG, Format.WEBP])
def test_encoding_noise_takes_what_is_counted(tmp_path: Path, kind: Format, channels: int) -> None:
    if kind is Format.JPEG and channels in (2, 4):
        return
    np.save(tmp_path / "image.npy", noise(channels))
    encoding, sending = measured(kind, tmp_path / "image.npy")
    counted = memory.encode_bytes(Encoding.of(kind, None), channels)
    copies = memory.PNG_COPIES if kind is Format.PNG else memory.REPLY_COPIES
    check(counted, max(encoding, copies * sending))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["JPEG", "PNG grey"])
def test_making_16_bits_of_8_takes_what_is_counted(tmp_path: Path, kind: str) -> None:
    make, format_, options = FILES[kind]
    Image.fromarray(make()).save(tmp_path / "image", format_, **options)
    header = read_header((tmp_path / "image").read_bytes())
    check(memory.decode_bytes(header, 16), measured("decode", tmp_path / "image", 16)[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_grey_and_alpha_of_16_bits_take_what_is_counted(tmp_path: Path) -> None:
    data = codecs.encode(codecs.DecodedImage(noise(2).astype(np.uint16) << 8), Encoding(Format.PNG, 0))
    (tmp_path / "image").write_bytes(data)
    for bits in (8, 16):
        check(memory.decode_bytes(read_header(data), bits), measured("decode", tmp_path / "image", bits)[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_16_bits_take_what_is_counted(tmp_path: Path, channels: int) -> None:
    deep = noise(channels).astype(np.uint16) << 8 | noise(channels)[::-1]
    np.save(tmp_path / "image.npy", deep)
    data = codecs.encode(codecs.DecodedImage(deep), Encoding(Format.PNG, 0))
    (tmp_path / "image").write_bytes(data)
    check(memory.decode_bytes(read_header(data), 16), measured("decode", tmp_path / "image", 16)[0])
    encoding, sending = measured(Format.PNG, tmp_path / "image.npy")
    counted = memory.encode_bytes(Encoding.of(Format.PNG, None), channels, 16)
    check(counted, max(encoding, memory.PNG_COPIES * sending))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("every", [3, 5, 400])
def test_spreading_colours_takes_no_more_than_is_counted(tmp_path: Path, every: int, channels: int) -> None:
    pixels = image(channels)
    pixels[..., -1] = 0
    pixels[1::every, 1::every, -1] = 255  # far apart, so that many pixels are filled at once
    np.save(tmp_path / "image.npy", pixels)
    assert measured("spread", tmp_path / "image.npy")[0] < (channels - 1 + memory._SPREAD_BYTES) * 1.05


def test_the_detail_of_what_was_sent_tells_what_will_be_returned() -> None:
    pictures = (image(3), noise(3) >> 4, noise(3))
    files = [codecs.encode(codecs.DecodedImage(pixels), Encoding(Format.PNG, 1)) for pixels in pictures]
    files.append(codecs.encode(codecs.DecodedImage(noise(3)), Encoding(Format.JPEG, 90)))
    details = [memory.detail_of(read_header(data), len(data)) for data in files]
    assert details == [memory._LEAST_DETAIL, pytest.approx(len(files[1]) / noise(3).size), 1.0, 1.0]
    assert memory.detail_of(Header(Format.RAW, 9, 9, 3), 243) == 1.0


def test_what_is_held_is_given_back_and_whoever_is_alone_fits() -> None:
    budget = MemoryBudget(100)
    first, second = Hold(budget), Hold(budget)
    first.take(500)
    with pytest.raises(Overloaded, match=r"needs 1 bytes of memory, others hold 500, limit 100 \(max_held_bytes\)"):
        second.take(1)
    first.settle(60)
    second.take(40)
    with pytest.raises(Overloaded, match="needs 41 bytes of memory, others hold 60"):
        second.take(1)
    first.release()
    second.take(60)
    second.release()
    second.release()
    assert budget.held_bytes == 0
