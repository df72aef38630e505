"""What a picture may be, how it is sent, and what a result can be saved as."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ganserve import InvalidRequest
from ganserve.client.encode import encode
from ganserve.client.extras import Extras
from ganserve.client.iptc import of_raw_profile
from ganserve.client.pictures import MAX_PX, decoded, sent
from ganserve.client.png import Pixels, decode_png, encode_png
from ganserve.client.received import ReceivedImage, Timings
from ganserve.client.tiff_tags import tags_of, with_tags
from tests.ganserve.fake_server import Call, Fake, image_of

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def deep_image(channels: int) -> NDArray[np.uint16]:
    return np.random.default_rng(channels).integers(0, 65536, (9, 7, channels), np.uint16)


def pixels_sent(image: Any) -> Pixels:
    """What the server would read."""
    found = sent(image)
    if found.raw_width:
        return np.frombuffer(found.data, np.uint8).reshape(found.raw_height, found.raw_width, -1)
    return decode_png(found.data)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_keeps_every_bit_of_8_and_16_and_what_goes_with_it(channels: int) -> None:
    for pixels in (image_of(1, channels), deep_image(channels)):
        data = encode_png(pixels, icc=PROFILE, dpi=(300, 150))
        np.testing.assert_array_equal(decode_png(data), pixels)
        with Image.open(io.BytesIO(data)) as image:
            image.load()  # checks the checksums
            assert image.info["icc_profile"] == PROFILE
            assert image.info["dpi"] == pytest.approx((300, 150), abs=0.1)


def test_every_binary_object_is_read(tmp_path: Path) -> None:
    data = encode_png(image_of(1))
    path = tmp_path / "in.png"
    path.write_bytes(data)
    written = io.BytesIO()
    Image.fromarray(image_of(1)).save(written, "PNG")  # its position is at the end
    with path.open("rb") as opened:
        for image in (data, bytearray(data), memoryview(data), io.BytesIO(data), opened, str(path), path):
            assert sent(image).data == data
    np.testing.assert_array_equal(pixels_sent(written), image_of(1))
    with path.open(encoding="latin-1") as text, pytest.raises(InvalidRequest, match="open it with mode 'rb'"):
        sent(text)


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_arrays_of_every_depth_are_sent_without_loss(channels: int | None) -> None:
    small, deep = image_of(1, channels or 1), deep_image(channels or 1)
    for pixels in (small, deep):
        given = pixels if channels else pixels[..., 0]
        np.testing.assert_array_equal(pixels_sent(given), pixels)
    np.testing.assert_array_equal(pixels_sent(deep / 65535), deep)
    np.testing.assert_array_equal(pixels_sent((deep / 65535).astype(np.float32)), deep)
    np.testing.assert_array_equal(pixels_sent(deep.astype(">u2")), deep)
    np.testing.assert_array_equal(pixels_sent(small > 99), (small > 99) * np.uint8(255))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "F", "LA", "RGBX", "RGBa"])
def test_a_pil_image_of_any_mode_keeps_its_look(mode: str) -> None:
    image = Image.linear_gradient("L").resize((8, 8)).convert("RGB").convert(mode)
    seen = pixels_sent(image)
    shown = seen if seen.dtype == np.uint8 else (seen / 257).round().astype(np.uint8)
    expected = np.atleast_3d(np.asarray(image.convert("RGB")))
    np.testing.assert_allclose(shown[..., :1], expected[..., :1], atol=1)


def test_lab_and_inks_with_a_profile_become_srgb() -> None:
    red = Image.new("RGB", (2, 2), (200, 30, 60))
    lab = ImageCms.profileToProfile(
        red, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    np.testing.assert_allclose(pixels_sent(lab)[0, 0], (200, 30, 60), atol=2)


def test_colour_profile_exif_and_dpi_go_with_a_pil_image() -> None:
    image = Image.fromarray(image_of(1))
    image.info |= {"icc_profile": PROFILE, "dpi": (200, 200)}
    image.getexif()[0x010E] = "a description"
    with Image.open(io.BytesIO(sent(image).data)) as found:
        assert found.info["icc_profile"] == PROFILE
        assert found.getexif()[0x010E] == "a description"
        assert found.info["dpi"] == pytest.approx((200, 200), abs=0.1)


@pytest.mark.parametrize("suffix", [".tif", ".bmp", ".gif", ".avif"])
def test_files_that_the_server_cannot_read_are_read_here(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"in{suffix}"
    Image.new("RGB", (16, 8), (200, 30, 60)).save(path, quality=100)
    np.testing.assert_allclose(pixels_sent(path)[..., :3], np.full((8, 16, 3), (200, 30, 60)), atol=3)


@pytest.mark.parametrize(("suffix", "module"), [(".heic", "pillow_heif"), (".jxl", "pillow_jxl")])
def test_files_of_the_extras_are_written_and_read(suffix: str, module: str, tmp_path: Path) -> None:
    pytest.importorskip(module)
    pixels = np.full((16, 24, 3), (200, 30, 60), np.uint8)
    path = tmp_path / f"in{suffix}"
    path.write_bytes(encode(pixels, suffix, extras=Extras(icc=PROFILE), quality=95))
    np.testing.assert_allclose(pixels_sent(path), pixels, atol=5)
    assert b"iCCP" in sent(path).data


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"planarconfig": "separate"}])
def test_a_tiff_of_16_bits_keeps_them(compression: str | None, options: dict[str, Any]) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 20, 3), np.uint16)
    stored = np.moveaxis(pixels, 2, 0) if "planarconfig" in options else pixels
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stored, photometric="rgb", compression=compression, iccprofile=PROFILE, **options)
    found = sent(buffer)
    np.testing.assert_array_equal(decode_png(found.data), pixels)
    assert b"iCCP" in found.data


@pytest.mark.parametrize(
    ("data", "text"), [(b"", "the file is empty"), (b"hello world", "begins with 68 65 6c 6c"), (b"II*\0", "TIFF")]
)
def test_what_is_no_picture_is_a_sentence(data: bytes, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        sent(data)


def test_a_result_goes_into_the_next_call_and_a_list_is_many_images_in_order(call: Call) -> None:
    made = call("generate", "faces", seeds=range(20))
    large = call("upscale", "sr", made)
    assert len(large) == 20
    for before, after in zip(made, large, strict=True):
        np.testing.assert_array_equal(after.array, before.array.repeat(2, 0).repeat(2, 1))
    raw = call("generate", "faces", seeds=[3], format="raw")[0]
    np.testing.assert_array_equal(call("upscale", "sr", raw).array, image_of(3).repeat(2, 0).repeat(2, 1))
    assert call("upscale", "sr", []) == []
    with pytest.raises(InvalidRequest, match="image must be"):
        call("upscale", "sr", [image_of(1), 7])


def test_seeds_are_ints_and_nothing_that_could_be_turned_into_them(call: Call, fake: Fake) -> None:
    for seeds in ([1.5, 2.9], "12", 1.0, [True], ["1"], np.array([1.0])):
        with pytest.raises(TypeError, match="seeds must be"):
            call("generate", "faces", seeds=seeds)
        with pytest.raises(TypeError, match="noise_seeds must be"):
            call("generate", "faces", seeds=1, noise_seeds=seeds)
    with pytest.raises(TypeError, match="count must be"):
        call("generate", "faces", count=2.0)
    with pytest.raises(TypeError, match="labels must be"):
        call("generate", "faces", seeds=1, labels=[1.5])
    assert fake.service.requests == []
    assert len(call("generate", "faces", seeds=np.array([1, 2]))) == 2


def test_more_images_than_a_call_may_have_are_several_calls(call: Call, fake: Fake) -> None:
    n = 1500
    images = call("generate", "faces", seeds=range(n), labels=[0] * n, format="raw")
    assert [image.seed for image in images] == list(range(n))
    assert [image.index for image in images] == list(range(n))
    sizes = [(len(request.seeds.values), len(request.labels)) for request in fake.service.requests]
    assert sizes == [(1024, 1024), (476, 476)]
    images = call("generate", "faces", count=n, first_seed=7, truncation=0.5, format="raw")
    assert [image.seed for image in images] == list(range(7, n + 7))
    assert [list(request.truncations) for request in fake.service.requests[2:]] == [[0.5], [0.5]]


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".avif", ".png"])
def test_a_saved_result_keeps_its_colour_profile_and_the_servers_quality(suffix: str, tmp_path: Path) -> None:
    pixels = np.full((8, 8, 3), (200, 30, 60), np.uint8)
    (tmp_path / f"a{suffix}").write_bytes(encode(pixels, suffix, extras=Extras(icc=PROFILE)))
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.info["icc_profile"] == PROFILE
        np.testing.assert_allclose(np.asarray(image), pixels, atol=3)
        if suffix == ".jpg":
            reference = io.BytesIO()
            Image.fromarray(pixels).save(reference, "JPEG", quality=90)
            with Image.open(reference) as wanted:
                assert image.quantization == wanted.quantization  # type: ignore[attr-defined]


def test_a_result_is_saved_with_all_that_was_received(call: Call, tmp_path: Path) -> None:
    transparent = call("upscale", "sr", image_of(1, 4))
    for suffix in (".jpg", ".bmp"):
        with pytest.raises(ValueError, match="has an alpha channel"):
            transparent.save(tmp_path / f"x{suffix}")
    for suffix in (".webp", ".tif", ".gif"):
        transparent.save(tmp_path / f"x{suffix}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.gif", "x.tif", "x.webp"]
    assert call("upscale", "sr", image_of(1), format="raw")._repr_png_()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="70000 x 1 px cannot be written as WEBP"):
        encode(np.zeros((1, 70000, 3), np.uint8), ".webp")


def test_16_bits_are_kept_in_tiff_and_rounded_in_jpeg(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    for channels in (1, 2, 3, 4):
        data = encode(deep_image(channels), ".tif", extras=Extras(icc=PROFILE, dpi=(72, 72)))
        found = tifffile.imread(io.BytesIO(data))
        np.testing.assert_array_equal(found.reshape(9, 7, channels), deep_image(channels))
    data = encode(np.full((8, 8, 3), 65535 * 200 // 255, np.uint16), ".jpg")
    np.testing.assert_allclose(np.asarray(Image.open(io.BytesIO(data))), 200, atol=1)


def test_before_and_after_are_one_page_that_loads_nothing(call: Call, tmp_path: Path) -> None:
    after = call("upscale", "sr", image_of(1))
    page = after.compare(image_of(1))
    page.save(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("data:image/png;base64,") == 2
    assert "http" not in text
    assert "before, and after sr version 1: 12 x 8" in text
    assert "srcdoc" in page._repr_html_()


EXIF_AND_XMP = (b"<x>kept</x>", "2026:11:28 01:02:03")


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_takes_exif_and_xmp_and_gives_them_back(bits: int) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x9003] = EXIF_AND_XMP[1]
    pixels = image_of(1) if bits == 8 else deep_image(3)
    extras = Extras(PROFILE, exif.tobytes(), (300, 300), EXIF_AND_XMP[0])
    data = encode(pixels, ".tif", extras=extras)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        np.testing.assert_array_equal(file.asarray(), pixels)
    with Image.open(io.BytesIO(sent(data).data)) as image:
        found = image.getexif()
        assert (found[0x010F], found.get_ifd(0x8769)[0x9003]) == ("Maker", EXIF_AND_XMP[1])
        assert 273 not in found, "the places of its strips"
        assert image.info["xmp"] == EXIF_AND_XMP[0]
        assert [round(side) for side in image.info["dpi"]] == [300, 300]


def test_a_deep_tiff_that_lies_on_its_side_is_sent_upright() -> None:
    pixels = deep_image(3)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="rgb", extratags=[(274, 3, 1, 6, True)], byteorder=">")
    made = decode_png(sent(buffer.getvalue()).data)
    np.testing.assert_array_equal(made, np.rot90(pixels, -1))


def test_damaged_exif_costs_a_tiff_nothing() -> None:
    plain = encode(image_of(1), ".tif")
    for damage in (b"junk", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x09", b"II*\0\x08\0\0\0" + b"\xff" * 40):
        made = with_tags(plain, damage, b"")
        with Image.open(io.BytesIO(made)) as image:
            np.testing.assert_array_equal(np.asarray(image), image_of(1))
        tags_of(damage)


@pytest.mark.parametrize(("channels", "bits"), [(3, 16), (4, 16), (1, 16), (2, 8), (3, 8)])
def test_a_raw_result_is_sent_on_as_it_is(channels: int, bits: int) -> None:
    pixels = deep_image(channels) if bits == 16 else deep_image(channels).astype(np.uint8)
    height, width = pixels.shape[:2]
    raw = ReceivedImage(pixels.tobytes(), "raw", width, height, channels, "sr", "1", Timings())
    found = pixels_sent(raw)
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".avif"])
def test_words_of_exif_that_are_not_ascii_stay_as_they_are(suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x013B], exif[0x010F] = "Jürgen".encode(), "Maker"
    path = tmp_path / f"out{suffix}"
    path.write_bytes(encode(image_of(1), suffix, extras=Extras(exif=exif.tobytes())))
    with Image.open(path) as image:
        found = image.getexif()
        assert (found[0x013B].encode("latin-1").decode(), found[0x010F]) == ("Jürgen", "Maker")


@pytest.mark.parametrize(("suffix", "bits"), [(".jpg", 8), (".png", 8), (".png", 16)])
def test_what_goes_with_a_picture_is_of_it_upright(suffix: str, bits: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769).update({0xA002: 40, 0xA003: 24})
    xmp = b'<x tiff:Orientation="6"><tiff:Orientation>6</tiff:Orientation></x>'
    stored = np.full((24, 40, 3), 200, np.uint8) if bits == 8 else deep_image(3)
    data = encode(stored, suffix, extras=Extras(exif=exif.tobytes(), xmp=xmp))
    pixels, extras = decoded(data)
    height, width = pixels.shape[:2]
    assert (width, height) == stored.shape[:2]
    assert pixels.dtype == stored.dtype
    for found in (extras, Extras.of(Image.open(io.BytesIO(data)))):
        assert found.xmp == xmp.replace(b"6", b"1")
        read = Image.Exif()
        read.load(found.exif or b"")
        assert 0x0112 not in read
        assert {tag: read.get_ifd(0x8769)[tag] for tag in (0xA002, 0xA003)} == {0xA002: width, 0xA003: height}


def test_only_so_many_pixels_are_worked_on_here_and_a_file_of_8_bits_is_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InvalidRequest, match=f"{MAX_PX} px at most"):
        decoded(np.broadcast_to(np.uint8(0), (2, MAX_PX, 1))[:, : MAX_PX // 2 + 1])
    monkeypatch.setattr("ganserve.client.pictures.encode_png", lambda *_, **__: pytest.fail("encoded once more"))
    monkeypatch.setattr("ganserve.client.pictures.decode_png", lambda *_: pytest.fail("decoded twice"))
    for suffix in (".png", ".jpg"):
        pixels, _ = decoded(encode(np.full((9, 7, 3), 200, np.uint8), suffix))
        np.testing.assert_allclose(pixels, 200, atol=1)


CAPTION = b"\x1c\x02\x78\x00\x05Hello"
EVERYTHING = Extras(
    icc=PROFILE,
    dpi=(300, 300),
    xmp=b"<rdf:RDF/>",
    iptc=CAPTION,
    texts={"Title": "grüße", "Comment": "c", "prompt": "p"},
)


@pytest.mark.parametrize(
    ("suffix", "lost"),
    [
        (".png", ""),
        (".jpg", "JPEG cannot hold its text(s) (prompt); .png can"),
        (".tif", "TIFF cannot hold its text(s) (prompt); .png can"),
        (".avif", "AVIF cannot hold its IPTC, text(s) (prompt); .png can"),
        (".bmp", "BMP cannot hold its XMP, IPTC, text(s) (Title, Comment, prompt); .png can"),
    ],
)
def test_what_a_format_has_no_place_for_is_said_and_the_rest_is_there(suffix: str, lost: str, tmp_path: Path) -> None:
    data = encode_png(image_of(1), **vars(EVERYTHING))
    result = ReceivedImage(data, "png", 6, 4, 3, "m", "1", Timings())
    path = tmp_path / f"out{suffix}"
    if lost:
        with pytest.warns(UserWarning, match=re.escape(lost)):
            result.save(path, quality=None)
    else:
        result.save(path, quality=9)
    with Image.open(io.BytesIO(sent(sent(path).data).data)) as image:
        found = Extras.of(image)
        title = found.texts.get("Title") or image.getexif().get(0x010D, "").encode("latin-1").decode()
    assert (title == "grüße") == (suffix != ".bmp")
    assert (found.iptc == CAPTION) == (suffix in (".png", ".jpg", ".tif"))
    assert (found.icc == PROFILE) == (suffix != ".bmp")


@pytest.mark.parametrize("text", ["iptc 5" + " " * 10**6 + "!", "iptc 2 abc", "iptc 3 abcd", "iptc \u00b2 ab", "iptc"])
def test_a_damaged_raw_profile_is_nothing(text: str) -> None:
    assert of_raw_profile(text) == b""
    assert of_raw_profile("\niptc\n 2\nab\ncd\n") == b"\xab\xcd"
