import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from server.errors import ImageTooLarge, InvalidRequest
from server.images import codecs
from server.images.codecs import DecodedImage, Encoding
from server.images.header import Format, read_header
from server.images.metadata.block import Density, Metadata, Policy
from server.images.metadata.read import chunk
from server.images.metadata.write import fit
from server.images.needed import needed_chunks, needed_riff_chunks, needed_segments

Pixels = NDArray[np.uint8]
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
PROFILE_TIME = slice(24, 36)  # in the header of an ICC profile
ENCODINGS = {"PNG": Format.PNG, "JPEG": Format.JPEG, "WEBP": Format.WEBP}


def noise(height: int, width: int, channels: int) -> Pixels:
    return np.random.RandomState(height + width).randint(0, 256, (height, width, channels)).astype(np.uint8)


def smooth(height: int, width: int, channels: int) -> Pixels:
    axes = np.add.outer(np.arange(height) * 2, np.arange(width) * 3)
    return np.stack([(axes + 40 * channel) % 200 for channel in range(channels)], -1).astype(np.uint8)


def image_of(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def decoded(data: bytes) -> DecodedImage:
    header = read_header(data)
    picture = codecs.decode(data, header)
    assert picture.pixels.shape == (header.height, header.width, header.channels)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    return picture


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in parts)


def srgb() -> bytes:
    """A profile whose time of creation is not now: each call gives the same."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[PROFILE_TIME] = bytes(12)
    return bytes(profile)


@settings(deadline=None)
@given(
    st.sampled_from([1, 2, 3, 4]).flatmap(
        lambda channels: arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(channels)))
    ),
    st.integers(0, 9),
)
def test_a_png_keeps_every_pixel_and_is_what_pillow_reads(pixels: Pixels, level: int) -> None:
    data = codecs.encode(DecodedImage(pixels), Encoding(Format.PNG, level))
    assert np.array_equal(decoded(data).pixels, pixels)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == MODES[pixels.shape[2]]
        assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_a_png_of_several_strips_keeps_every_pixel() -> None:
    for pixels in (noise(700, 900, 3), noise(3, 200_000, 1), np.tile(smooth(700, 900, 1), 4)):
        data = codecs.encode(DecodedImage(pixels), Encoding(Format.PNG, 1))
        assert np.array_equal(decoded(data).pixels, pixels)
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("grain", [0, 6])
def test_a_higher_level_never_makes_a_photograph_larger(channels: int, grain: int) -> None:
    """Soft shapes, with the grain of a sensor or without it, as an upscaler returns them."""
    coarse = image_of(noise(30, 40, channels)).resize((400, 300), Image.Resampling.BICUBIC)
    soft = np.asarray(coarse, np.int16).reshape(300, 400, channels)
    levels = soft + np.random.RandomState(0).randint(-grain, grain + 1, soft.shape)
    pixels = np.clip(levels, 0, 255).astype(np.uint8)
    sizes = [len(codecs.encode(DecodedImage(pixels), Encoding(Format.PNG, level))) for level in range(10)]
    assert sizes[0] > pixels.nbytes, "level 0 stores"
    for level in range(1, 10):
        assert sizes[level] <= sizes[level - 1] * 1.001, f"level {level} of {sizes}"
    pillow = len(saved(image_of(pixels), "PNG", compress_level=6))
    assert sizes[1] < 1.08 * pillow, "in a tenth of its time"
    assert sizes[6] < 1.02 * pillow


@pytest.mark.parametrize("kind", [Format.PNG, Format.JPEG, Format.WEBP, Format.RAW])
def test_equal_pixels_give_equal_bytes(kind: Format) -> None:
    encoding = Encoding.of(kind, None)
    pixels = smooth(40, 30, 3)
    strided = np.repeat(pixels, 2, axis=1)[:, ::2]
    assert codecs.encode(DecodedImage(pixels), encoding) == codecs.encode(DecodedImage(strided), encoding)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_lossy_formats_stay_near(kind: str, channels: int) -> None:
    if (kind, channels) == ("JPEG", 4):
        return
    pixels = np.clip(smooth(48, 32, channels), 0, 60) + 100
    encoding = Encoding.of(ENCODINGS[kind], None)
    found = decoded(codecs.encode(DecodedImage(pixels), encoding)).pixels
    assert found.shape[2] == encoding.channels(channels)
    expected = np.broadcast_to(pixels, found.shape) if channels == 1 else pixels
    assert np.abs(found.astype(int) - expected).mean() < 6


def test_raw_is_the_pixels_row_by_row() -> None:
    pixels = noise(5, 7, 3)
    data = codecs.encode(DecodedImage(pixels), Encoding.of(Format.RAW, None))
    assert data == pixels.tobytes()
    header = codecs.raw_header(len(data), 7, 5)
    assert (header.width, header.height, header.channels) == (7, 5, 3)
    assert np.array_equal(codecs.decode_raw(data, codecs.raw_header(len(data), 7, 5)).pixels, pixels)


@pytest.mark.parametrize(("nbytes", "width", "height"), [(0, 4, 4), (31, 4, 4), (32, 4, 4), (80, 4, 4), (48, 0, 4)])
def test_raw_bytes_that_do_not_fit_the_sizes_are_rejected(nbytes: int, width: int, height: int) -> None:
    with pytest.raises(InvalidRequest, match=r"raw_width, raw_height|1, 3 or 4 channels"):
        codecs.raw_header(nbytes, width, height)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_known_from_the_header(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    data = saved(image_of(smooth(16, 32, 3)), kind, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(decoded(data).pixels, upright)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_of_many_blocks_of_exif_only_the_first_is_read(kind: str) -> None:
    """Each takes a millisecond, and a file may have thousands."""
    data = saved(Image.new("RGB", (3, 2)), kind)
    blocks = b""
    for orientation in (6, *[1] * 2000):
        exif = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x0112, 3, 1, orientation)
        if kind == "PNG":
            blocks += chunk(b"eXIf", exif)
        else:
            blocks += b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif
    at = 33 if kind == "PNG" else 2
    assert read_header(data[:at] + blocks + data[at:]).orientation == 6


def test_what_lies_beside_the_pixels_of_a_jpeg_is_skipped() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = saved(image_of(smooth(8, 8, 3)), "JPEG", icc_profile=profile)
    beside = b"".join(
        b"\xff" + bytes([marker]) + struct.pack(">H", 60_002) + b"Exif\0\0".ljust(60_000)
        for marker in (0xE1, 0xE1, 0xE2, 0xED, 0xFE)
    )
    assert needed_segments(plain) is plain
    assert needed_segments(plain[:2] + b"\xff\xd0" + beside + b"junk" + plain[2:]) == plain


@pytest.mark.parametrize("before", [b"", b"\xff\xfe\xff\xff" + b"\xff" * 65_533])
def test_of_very_many_fill_bytes_in_a_jpeg_few_are_kept(before: bytes) -> None:
    """Pillow would take 25 s for 60 MB of them."""
    plain = saved(image_of(smooth(40, 50, 3)), "JPEG", progressive=True)
    at = plain.rindex(b"\xff\xda")
    data = plain[:at] + before + b"\xff" * (1 << 20) + plain[at:] + b"\xff" * (1 << 20)
    assert len(needed_segments(data)) < len(plain) + len(before) + (1 << 18)
    assert np.array_equal(decoded(data).pixels, decoded(plain).pixels)
    few = plain[:at] + b"\xff" * 60_000 + plain[at:]
    assert needed_segments(few) is few


@pytest.mark.parametrize("lossless", [False, True])
def test_what_lies_beside_the_pixels_of_a_webp_is_skipped(lossless: bool) -> None:
    """libwebp takes memory for each chunk: 360 MB for 60 MB of empty ones."""
    plain = saved(image_of(smooth(9, 7, 4)), "WEBP", icc_profile=srgb(), lossless=lossless)
    beside = b"".join(name + struct.pack("<I", 3) + b"II*\0" for name in (b"EXIF", b"ABCD", b"XMP ") * 9)
    data = plain[:30] + beside + plain[30:] + beside + b"the end"
    assert needed_riff_chunks(plain) is plain
    assert needed_riff_chunks(data) == plain
    cut = plain[:30] + beside + plain[30:-12]
    assert needed_riff_chunks(cut)[12:] == plain[12:-12]
    with pytest.raises(InvalidRequest):
        decoded(cut)
    assert np.array_equal(decoded(data).pixels, decoded(plain).pixels)
    assert decoded(data).metadata.icc == srgb()


@pytest.mark.parametrize(
    "segments",
    [
        b"\xff\xfe\0\2" * 2048,
        *(
            b"\xff" + bytes([marker]) + b"\0\x0c" + b"\xff\xe1\0\x0aExif\0\0"
            for marker in (2, 0xC8, 0xD8, 0xDE, 0xF0, 0xFD)
        ),
        b"\xff\xd9\0\2",
        b"\xff\xfe\0\0",
    ],
)
def test_segments_that_pillow_would_see_otherwise_are_rejected(segments: bytes) -> None:
    plain = saved(image_of(smooth(8, 8, 3)), "JPEG")
    with pytest.raises(
        InvalidRequest, match=r"damaged JPEG: (a segment .* before the pixels|no pixels within 2048 seg)"
    ):
        read_header(plain[:-2].replace(b"\xff\xda", segments + b"\xff\xda", 1))


def test_a_jpeg_of_very_many_tables_is_rejected() -> None:
    """Pillow would take 5 s for 60 MB of them."""
    plain = saved(image_of(smooth(8, 8, 3)), "JPEG")
    table = b"\xff\xdb" + struct.pack(">H", 65_002) + (b"\0" + b"\1" * 64) * 1000
    assert np.array_equal(decoded(plain[:2] + table * 4 + plain[2:]).pixels, decoded(plain).pixels)
    with pytest.raises(InvalidRequest, match=r"^image: JPEG of more than 262144 bytes of tables; save it again$"):
        decoded(plain[:2] + table * 5 + plain[2:])


@pytest.mark.parametrize("first", [(6, b"bad!", 3), (6, b"", 6)], ids=["damaged", "whole"])
def test_the_orientation_is_of_the_exif_that_is_kept(first: tuple[int, bytes, int]) -> None:
    orientation, checksum, expected = first
    plain = saved(Image.new("RGB", (3, 2)))
    blocks = [b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x0112, 3, 1, each) for each in (orientation, 3)]
    one = chunk(b"eXIf", blocks[0])
    one = one[: -len(checksum)] + checksum if checksum else one
    data = plain[:33] + chunk(b"eXIf", b"") + one + chunk(b"eXIf", blocks[1]) + plain[33:]
    header = read_header(data)
    assert header.orientation == expected
    assert codecs.decode(data, header, 8, 1 << 20).metadata.exif == blocks[header.orientation == 3]


@pytest.mark.parametrize("exif", [b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"nonsense"])
def test_damaged_exif_costs_the_orientation_only(exif: bytes) -> None:
    data = png(1, 1, 8, 0, b"\0\x09", (b"eXIf", exif))
    assert read_header(data).orientation == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_that_pillow_writes_comes_back_as_grey_or_rgb(mode: str) -> None:
    image = image_of(smooth(9, 13, 3 if mode == "P" else 4)).convert(mode)
    wanted = {"1": "L", "P": "RGB"}.get(mode, mode)
    expected = np.asarray(image.convert(wanted)).reshape(9, 13, -1)
    assert np.array_equal(decoded(saved(image)).pixels, expected)


def test_a_palette_with_transparency_has_alpha() -> None:
    image = image_of(smooth(9, 13, 3)).quantize(8)
    data = saved(image, transparency=bytes([0, 128, 255]))
    with Image.open(io.BytesIO(data)) as read:
        expected = np.asarray(read.convert("RGBA"))
    assert np.array_equal(decoded(data).pixels, expected)


def test_a_cmyk_jpeg_becomes_rgb() -> None:
    image = image_of(smooth(16, 16, 3)).convert("CMYK")
    data = saved(image, "JPEG", quality=95)
    assert read_header(data).channels == 3
    assert np.abs(decoded(data).pixels.astype(int) - smooth(16, 16, 3)).mean() < 12


def test_a_cmyk_image_with_an_unusable_profile_still_becomes_rgb() -> None:
    data = saved(image_of(smooth(16, 16, 3)).convert("CMYK"), "JPEG", icc_profile=b"\0" * 200)
    picture = decoded(data)
    assert picture.metadata.icc is None


def elements_profile() -> bytes:
    """A profile of CMYK that has nothing but a table of elements, which make every colour black."""
    to_lab = b"matf" + bytes(4) + struct.pack(">HH", 4, 3) + bytes(4 * 15)
    table = b"mpet" + bytes(4) + struct.pack(">HHIII", 4, 3, 1, 24, len(to_lab)) + to_lab
    head = struct.pack(">II", 144 + len(table), 0) + b"\x04\x30\0\0prtrCMYKLab " + bytes(12) + b"acsp" + bytes(28)
    illuminant = struct.pack(">iii", 63190, 65536, 54061)
    tags = struct.pack(">I4sII", 1, b"D2B0", 144, len(table))
    return (head + illuminant).ljust(128, b"\0") + tags + table


def test_a_profile_of_elements_is_not_computed_which_a_few_bytes_can_make_endless() -> None:
    image, profile = image_of(smooth(16, 16, 3)).convert("CMYK"), elements_profile()
    ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), "CMYK", "RGB"
    )
    with_it = decoded(saved(image, "JPEG", icc_profile=profile))
    assert np.array_equal(with_it.pixels, decoded(saved(image, "JPEG")).pixels)


@settings(deadline=None)
@given(arrays(np.uint8, (3, 5)))
def test_a_16_bit_grey_png_keeps_its_high_byte(grey: Pixels) -> None:
    wide = grey.astype(np.uint16) * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    assert np.array_equal(decoded(png(5, 3, 16, 0, rows)).pixels[..., 0], grey)


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_a_16_bit_colour_png_keeps_its_high_byte(colour: int, channels: int) -> None:
    samples = np.random.RandomState(0).randint(0, 1 << 16, (3, 5, channels))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    assert np.array_equal(decoded(png(5, 3, 16, colour, rows)).pixels, samples >> 8)


@pytest.mark.parametrize(("bits", "key"), [(1, 1), (2, 2), (4, 7), (8, 200), (16, 40_000)])
def test_a_key_colour_becomes_alpha_at_every_depth_of_grey(bits: int, key: int) -> None:
    row = np.array([key, 0, key, 0, 0, 0, 0, 0])
    packed = row.astype(">u2").tobytes() if bits == 16 else bytes(np.packbits(_bits(row, bits)))
    data = png(8, 1, bits, 0, b"\0" + packed, (b"tRNS", struct.pack(">H", key)))
    assert decoded(data).pixels[0, :, 1].tolist() == [0, 255, 0, 255, 255, 255, 255, 255]


def _bits(values: NDArray[Any], bits: int) -> NDArray[Any]:
    return np.stack([values >> shift & 1 for shift in reversed(range(bits))], -1).reshape(-1)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_key_colour_becomes_alpha_in_rgb(bits: int) -> None:
    wide = 1 if bits == 8 else 257
    samples = np.array([[10, 20, 30], [10, 20, 31]]) * wide
    rows = b"\0" + samples.astype(">u1" if bits == 8 else ">u2").tobytes()
    data = png(2, 1, bits, 2, rows, (b"tRNS", struct.pack(">HHH", *samples[0])))
    assert decoded(data).pixels[0].tolist() == [[10, 20, 30, 0], [10, 20, 31, 255]]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_colour_profile_travels_from_input_to_output(kind: str) -> None:
    picture = decoded(saved(image_of(smooth(16, 16, 3)), kind, icc_profile=srgb()))
    assert picture.metadata.icc == srgb()
    again = codecs.encode(picture, Encoding.of(ENCODINGS[kind], None))
    assert decoded(again).metadata.icc == srgb()
    with Image.open(io.BytesIO(again)) as image:
        assert image.info["icc_profile"] == srgb()


def test_a_profile_that_does_not_describe_the_pixels_is_left_behind() -> None:
    assert decoded(saved(image_of(smooth(4, 4, 1)), icc_profile=srgb())).metadata.icc is None


def test_a_profile_that_is_longer_than_a_jpeg_holds_is_left_behind() -> None:
    """Pillow would take half a minute for 60 MB of it, and number 255 segments and more in one byte."""
    longest = srgb() + bytes(255 * 65_519 - len(srgb()))
    for profile in (longest, longest + b"\0"):
        fitting = fit(Metadata(icc=profile), Policy.ICC, Format.JPEG, (3, 4, 3))
        data = codecs.encode(DecodedImage(noise(3, 4, 3), fitting.metadata), Encoding(Format.JPEG, 90))
        assert (decoded(data).metadata.icc == profile) is (profile is longest)
        dropped = ("its colour profile of 16707346 bytes was dropped: a JPEG holds 16707345",)
        assert fitting.warnings == (() if profile is longest else dropped)
    assert fit(Metadata(icc=profile), Policy.ICC, Format.PNG, (3, 4, 3)).metadata.icc == profile


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animated_images_are_rejected(kind: str) -> None:
    frames = [image_of(noise(8, 8, 3)), image_of(smooth(8, 8, 3))]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(InvalidRequest, match=r"animated .* send one frame"):
        read_header(data)


@pytest.mark.parametrize("data", [b"", b"GIF89a..........", b"%PDF-1.4", b"\0" * 100])
def test_other_formats_are_rejected_by_name_of_those_taken(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="must be PNG, JPEG or WebP"):
        read_header(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_every_cut_of_a_file_is_rejected_or_decoded_in_full(kind: str) -> None:
    data = saved(image_of(noise(24, 24, 3)), kind)
    refused = 0
    for end in range(0, len(data) - 12, 7):
        try:
            decoded(data[:end])
        except InvalidRequest:
            refused += 1
    assert refused > (len(data) - 12) // 7 * 0.95


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, about metadata
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@settings(deadline=None)
@given(drawn=st.data())
def test_damaged_bytes_never_raise_anything_but_a_refusal(kind: str, drawn: st.DataObject) -> None:
    data = bytearray(saved(image_of(smooth(12, 12, 3)), kind, icc_profile=srgb()))
    for _ in range(drawn.draw(st.integers(1, 4))):
        data[drawn.draw(st.integers(0, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    try:
        header = read_header(bytes(data))
        if header.width * header.height < 1 << 20:
            codecs.decode(bytes(data), header)
    except InvalidRequest:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBB", 13, b"IHDR", 1, 1, 8, 2) + bytes(7) + bytes(12) * 100_000,
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * 100_000,
        b"\xff\xd8" + b"\xff" * 1_000_000,
        b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<IB9x", 10, 8) + bytes(8) * 100_000,
    ],
)
def test_a_header_without_end_is_given_up(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="damaged"):
        read_header(data)


def test_a_size_is_known_without_the_pixels() -> None:
    head = png(60_000, 50_000, 8, 2, b"")
    header = read_header(head)
    assert (header.width, header.height) == (60_000, 50_000)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_image_whose_pixels_disagree_with_its_header_is_rejected(kind: str) -> None:
    data, other = (saved(image_of(smooth(8, size, 3)), kind) for size in (8, 16))
    with pytest.raises(InvalidRequest, match="the header says"):
        codecs.decode(data, read_header(other))


@pytest.mark.parametrize(
    ("kind", "quality", "text"),
    [
        (Format.PNG, 10, "quality: 10; PNG accepts 0..9"),
        (Format.JPEG, 0, "quality: 0; JPEG accepts 1..100"),
        (Format.WEBP, 101, "quality: 101; WebP accepts 1..100"),
        (Format.RAW, 1, "raw images have none"),
    ],
)
def test_a_quality_out_of_range_is_rejected_with_the_range(kind: Format, quality: int, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        Encoding.of(kind, quality)


def test_alpha_is_rejected_in_a_jpeg_rather_than_lost() -> None:
    with pytest.raises(InvalidRequest, match="JPEG does not support alpha"):
        Encoding.of(Format.JPEG, None).check(8, 8, 4)


@pytest.mark.parametrize(("kind", "side"), [(Format.JPEG, 65_501), (Format.WEBP, 16_384)])
def test_a_side_that_a_format_cannot_say_is_rejected(kind: Format, side: int) -> None:
    Encoding.of(kind, None).check(side - 1, 1, 3)
    with pytest.raises(InvalidRequest, match="use PNG"):
        Encoding.of(kind, None).check(1, side, 3)


@settings(deadline=None)
@given(arrays(np.uint8, (4, 6, 1)))
def test_grey_as_three_channels_comes_back_as_the_same_grey(grey: Pixels) -> None:
    assert np.array_equal(codecs.to_grey(np.repeat(grey, 3, axis=2)), grey)


def test_what_a_png_says_of_its_colours_is_kept() -> None:
    pixels = noise(3, 4, 3)
    plain = codecs.encode(DecodedImage(pixels), Encoding(Format.PNG, 1))

    colours = chunk(b"cICP", bytes([9, 16, 0, 1])) + chunk(b"gAMA", struct.pack(">I", 100_000))
    colours += chunk(b"cHRM", bytes(range(32))) + chunk(b"sRGB", b"\1")
    kept = colours + chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1))
    lost = chunk(b"cICP", bytes(5)) + chunk(b"tEXt", b"a\0b")
    found = decoded(plain[:33] + lost + kept + plain[33:])
    assert (found.metadata.colours, found.metadata.density) == (colours, Density(11811, 11811))
    assert codecs.encode(found, Encoding(Format.PNG, 1)) == plain[:33] + kept + plain[33:]


@pytest.mark.parametrize(
    "beside",
    [
        [(b"zTXt", b"note\0\0" + zlib.compress(b"x" * (3 << 20)))],
        [(b"tEXt", b"layer\0" + str(number).encode()) for number in range(5000)],
        [(b"prIV", bytes(2 << 20)), (b"iTXt", b"xmp\0\0\0\0\0" + b"<x/>" * (1 << 19))],
    ],
    ids=["a long text", "many texts", "private data"],
)
def test_what_lies_beside_the_pixels_of_a_png_is_skipped(beside: list[tuple[bytes, bytes]]) -> None:
    pixels = noise(3, 4, 3)
    plain = codecs.encode(DecodedImage(pixels), Encoding(Format.PNG, 1))

    texts = b"".join(chunk(*each) for each in beside)
    assert np.array_equal(decoded(plain[:33] + texts + plain[33:]).pixels, pixels)
    assert np.array_equal(decoded(plain[:-12] + texts + plain[-12:]).pixels, pixels)


def test_what_a_png_says_again_is_skipped() -> None:
    plain, gamma = codecs.encode(DecodedImage(noise(3, 4, 3)), Encoding(Format.PNG, 1)), chunk(b"gAMA", bytes(4))
    assert needed_chunks(plain[:33] + gamma * 3 + plain[33:] + gamma, 3) == plain[:33] + gamma + plain[33:] + gamma
    assert needed_chunks(plain[:33] + gamma + plain[33:-12] + gamma + plain[-12:], 3) == plain[:33] + gamma + plain[33:]


def test_a_png_whose_pixels_are_in_very_many_chunks_is_rejected() -> None:
    """Pillow would take 20 s for two million of one byte."""
    plain = codecs.encode(DecodedImage(noise(3, 4, 3)), Encoding(Format.PNG, 1))
    empty = chunk(b"IDAT", b"")
    assert np.array_equal(decoded(plain[:33] + empty * 1000 + plain[33:]).pixels, noise(3, 4, 3))
    with pytest.raises(InvalidRequest, match=r"^image: PNG with its pixels in more than 4096 chunks; save it again$"):
        decoded(plain[:33] + empty * (1 << 12) + plain[33:])
    with pytest.raises(InvalidRequest, match=r"^image: PNG with more than 65536 chunks beside its pixels; save it"):
        decoded(plain[:-12] + chunk(b"teXt", b"") * (1 << 16) + plain[-12:])


@pytest.mark.parametrize(
    ("name", "head"),
    [
        (b"zTXt", b"note\0\0"),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0"),
        (b"zTXt", b"Raw profile type exif\0\0"),
    ],
)
def test_damaged_texts_count_for_what_it_took_to_see_that(name: bytes, head: bytes) -> None:
    packed = zlib.compress(bytes(1 << 20))
    plain = saved(Image.new("RGB", (3, 2)))
    damaged = chunk(name, head + packed[:-4] + b"none")

    def read(count: int) -> None:
        data = plain[:33] + damaged * count + plain[33:]
        found = codecs.decode(data, read_header(data), 8, 1 << 20).metadata
        assert (found.exif, found.xmp, found.texts) == (b"", b"", ())

    read(1)
    with pytest.raises(ImageTooLarge, match=r"bytes or more of EXIF, XMP and texts, at most 1048576 are kept"):
        read(4)


def test_a_webp_whose_modes_overflow_is_encoded_by_the_next_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only of many megapixels they do (16 of one block, 62,000 times): libwebp's refusal is made here."""
    tried: list[dict[str, Any]] = []
    save = Image.Image.save

    def refusing(self: Image.Image, file: Any, kind: str, **options: Any) -> None:
        tried.append(options)
        if len(tried) < 3:
            raise ValueError("encoding error 6")
        save(self, file, kind, **options)

    monkeypatch.setattr(Image.Image, "save", refusing)
    pixels = np.random.RandomState(0).randint(0, 256, (20, 30, 3)).astype(np.uint8)
    data = codecs.encode(DecodedImage(pixels), Encoding.of(Format.WEBP, 70))
    assert [(each.get("method"), each["quality"], each.get("lossless")) for each in tried] == [
        (2, 70, None), (4, 70, None), (0, 0, True)
    ]  # fmt: skip
    assert np.array_equal(codecs.decode(data, read_header(data)).pixels, pixels)
    tried.clear()
    monkeypatch.setattr(codecs, "_WEBP_OVERFLOW", "another error")
    with pytest.raises(ValueError, match="encoding error 6"):
        codecs.encode(DecodedImage(pixels), Encoding.of(Format.WEBP, 70))
