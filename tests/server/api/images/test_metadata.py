"""What goes with an image's pixels comes back as asked, right for the image that it is now."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from ganserve.v1 import images_pb2 as pb
from server.images.metadata.profiles import profile_of
from tests.server.api.images.test_upscale import noise

PNG, JPEG, WEBP = pb.IMAGE_FORMAT_PNG, pb.IMAGE_FORMAT_JPEG, pb.IMAGE_FORMAT_WEBP
KEEP, STRIP = pb.METADATA_POLICY_KEEP, pb.METADATA_POLICY_STRIP
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description tiff:Orientation="6" tiff:ImageWidth='20' dc:creator="me">
<exif:PixelYDimension>10</exif:PixelYDimension>
<xmp:Thumbnails>a small one</xmp:Thumbnails></rdf:Description></rdf:RDF></x:xmpmeta>"""
THUMBNAIL = b"\xff\xd8 a small image of the whole \xff\xd9"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(order: str = "<") -> bytes:
    """A camera's: maker, orientation 6, a size, an Exif directory with a time and the size, and a thumbnail."""

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        packed = struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
        return struct.pack(f"{order}HHI", tag, kind, count) + packed

    outer = [(0x0100, 4, 1, 20), (0x010F, 2, 6, 200), (0x0112, 3, 1, 6), (0x8769, 4, 1, 100)]
    inner = [(0x9003, 2, 20, 210), (0xA002, 3, 1, 20), (0xA003, 4, 1, 10)]
    small = [(0x0103, 3, 1, 6), (0x0201, 4, 1, 240), (0x0202, 4, 1, len(THUMBNAIL))]
    block = bytearray(240)
    block[:8] = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    for at, entries, following in ((8, outer, 150), (100, inner, 0), (150, small, 0)):
        data = struct.pack(f"{order}H", len(entries)) + b"".join(entry(*each) for each in entries)
        data += struct.pack(f"{order}I", following)
        block[at : at + len(data)] = data
    block[200:206] = b"Maker\0"
    block[210:230] = b"2026:11:28 01:02:03\0"
    return bytes(block) + THUMBNAIL


def sent(kind: str, order: str = "<") -> bytes:
    """A photograph with all of it: 20 x 10 px as stored, turned by 90 degrees to be seen."""
    image = Image.fromarray(noise(10, 20))
    output = io.BytesIO()
    options: dict[str, Any] = {
        "exif": (b"Exif\0\0" if kind == "JPEG" else b"") + exif(order),
        "icc_profile": SRGB,
        "xmp": XMP,
    }
    if kind == "PNG":
        info = PngInfo()
        info.add_text("Title", "grüße")
        info.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
        options |= {"pnginfo": info, "dpi": (300, 300)}
    elif kind == "JPEG":
        options |= {"comment": "grüße", "dpi": (300, 300)}
    image.save(output, kind, **options)
    return output.getvalue()


def opened(data: bytes) -> Any:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("format", [PNG, JPEG, WEBP])
async def test_everything_is_kept_and_put_right(world: Any, kind: str, format: int, order: str) -> None:
    request = pb.UpscaleRequest(model="big", image=sent(kind, order), metadata=KEEP)
    request.encoding.format = format  # type: ignore[assignment]
    reply = await world.stub.Upscale(request)
    image = opened(reply.image.data)
    assert image.size == (20, 40)
    found = image.getexif()
    assert (found[0x0112], found[0x010F], found[0x0100]) == (1, "Maker", 20)
    inner = found.get_ifd(0x8769)
    assert (inner[0x9003], inner[0xA002], inner[0xA003]) == ("2026:11:28 01:02:03", 20, 40)
    assert b"a small" not in reply.image.data
    xmp = image.info["xmp"]
    for part in (b'tiff:Orientation="1"', b"tiff:ImageWidth='20'", b"<exif:PixelYDimension>40<", b'dc:creator="me"'):
        assert part in xmp
    assert image.info["icc_profile"] == SRGB
    assert not reply.warnings
    fields = [found.get(tag, b"") for tag in (0x010D, 0x9C9C)]
    texts = [*(image.info.get(name) for name in ("Title", "comment", "Comment")), *fields]
    encodings = "grüße", "grüße".encode(), "grüße".encode().decode("latin-1"), "grüße\0".encode("utf-16-le")
    assert sum(text in encodings for text in texts) == (kind != "WEBP")
    if kind != "WEBP" and format != WEBP:
        assert [round(side) for side in image.info["dpi"]] == [300, 300]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("format", [PNG, JPEG, WEBP])
async def test_by_default_colours_and_density_are_kept_and_with_strip_nothing(
    world: Any, kind: str, format: int
) -> None:
    request = pb.UpscaleRequest(model="big", image=sent(kind))
    request.encoding.format = format  # type: ignore[assignment]
    image = opened((await world.stub.Upscale(request)).image.data)
    assert image.size == (20, 40), "the orientation is applied"
    assert image.info["icc_profile"] == SRGB
    assert not {"xmp", "Title", "comment"} & set(image.info)
    assert not {0x010F, 0x0112, 0x8769} & set(image.getexif())
    if kind != "WEBP":
        assert [round(side) for side in image.info.get("dpi", (300, 300))] == [300, 300]
        assert format != WEBP or image.getexif()[0x011A] == 300
    request.metadata = STRIP
    reply = await world.stub.Upscale(request)
    image = opened(reply.image.data)
    assert not {"icc_profile", "exif", "xmp", "Title", "comment"} & set(image.info)
    assert not reply.warnings, "sRGB need not be said"


async def test_more_than_the_limit_is_refused_and_raw_pixels_hold_none(serve: Any) -> None:
    async with serve(max_metadata_bytes=600) as world:
        request = pb.UpscaleRequest(model="big", image=sent("PNG"), metadata=KEEP)
        text = await world.refusal(world.stub.Upscale(request))
        assert "bytes or more of EXIF, XMP and texts, at most 600 are kept (max_metadata_bytes)" in text
        assert not world.engine("big").batches
        request.encoding.format = pb.IMAGE_FORMAT_RAW
        assert "metadata: KEEP, but raw pixels hold none" in await world.refusal(world.stub.Upscale(request))
        bomb = bytearray(sent("PNG"))
        text_chunk = b"iTXtXML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(50 << 20), 9)
        chunk = struct.pack(">I", len(text_chunk) - 4) + text_chunk + struct.pack(">I", zlib.crc32(text_chunk))
        request = pb.UpscaleRequest(model="big", image=bytes(bomb[:33]) + chunk + bytes(bomb[33:]), metadata=KEEP)
        assert "max_metadata_bytes" in await world.refusal(world.stub.Upscale(request))


async def test_a_long_text_comes_back_so_that_others_can_read_it(world: Any) -> None:
    plain = world.png(noise(8, 8))
    texts = [b"note " * (1 << 19), b"short", b"long " * (1 << 19)]
    chunks = chunk(b"zTXt", b"a\0\0" + zlib.compress(texts[0])) + chunk(b"zTXt", b"b\0\0" + zlib.compress(texts[1]))
    chunks += chunk(b"zTXt", b"c\0\0no data") + chunk(b"iTXt", b"d\0\1\0en\0\0" + zlib.compress(texts[2]))
    request = pb.UpscaleRequest(model="big", image=plain[:33] + chunks + plain[33:], metadata=KEEP)
    assert "at most 4194304 are kept" in await world.refusal(world.stub.Upscale(request))
    request.image = plain[:33] + chunks.replace(chunk(b"zTXt", b"a\0\0" + zlib.compress(texts[0])), b"") + plain[33:]
    image = opened((await world.stub.Upscale(request)).image.data)
    assert (image.info["b"], image.info["d"]) == ("short", texts[2].decode())


ACROSS = 'xmlns:x="adobe:ns:meta/" xmlns:more="urn:more"'
MORE = f'''<x:xmpmeta {ACROSS}><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
rdf:about="" more:data="{"depth" * 30_000}" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'''.encode()
CAPTION = b"\x1c\x02\x78\x00\x07a house"


def press_photograph() -> bytes:
    """A JPEG with XMP in three segments, whose order is wrong, and IPTC among Photoshop's resources."""
    name = b"0123456789abcdef" * 2
    note = b'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="' + name.upper() + b'" '
    head = b"http://ns.adobe.com/xmp/extension/\0" + name + struct.pack(">I", len(MORE))
    parts = [head + struct.pack(">I", at) + MORE[at : at + 60_000] for at in (60_000, 0, 120_000)]
    extra = b"".join(struct.pack(">HH", 0xFFE1, len(part) + 2) + part for part in parts)
    resources = b"Photoshop 3.0\x008BIM\x04\x25\x03odd\0\0\0\x01x\0"
    resources += b"8BIM\x04\x04\0\0" + struct.pack(">I", len(CAPTION)) + CAPTION
    extra += struct.pack(">HH", 0xFFED, len(resources) + 2) + resources
    output = io.BytesIO()
    xmp = XMP.replace(b"tiff:Orientation", note + b"tiff:Orientation")
    Image.fromarray(noise(10, 20)).save(output, "JPEG", xmp=xmp, extra=extra)
    return output.getvalue()


async def test_long_xmp_and_iptc_go_from_any_format_to_any(world: Any) -> None:
    request = pb.UpscaleRequest(model="big", image=press_photograph(), metadata=KEEP)
    for format in (JPEG, PNG, JPEG, WEBP, JPEG):
        holds_iptc = format != WEBP and not request.image.startswith(b"RIFF")
        request.encoding.format = format
        reply = await world.stub.Upscale(request)
        lost = ["its IPTC was dropped, which WebP does not hold; PNG and JPEG do"]
        assert reply.warnings == (lost if format == WEBP else [])
        request.image = reply.image.data
        for part in (b'tiff:Orientation="1"', b'dc:creator="me"', b"depth" * 12_000, b'more:data="depth'):
            assert part in request.image
        assert b'tiff:Orientation="6"' not in request.image
        assert request.image.count(b"<rdf:RDF") == request.image.count(b"HasExtendedXMP") + 1 == 1 + (format == JPEG)
        info = opened(request.image).info
        assert (info.get("photoshop", {}).get(0x0404) == CAPTION or "Raw profile type iptc" in info) == holds_iptc
    whole = struct.pack(">II", len(MORE), 60_000)
    hurt = press_photograph().replace(whole, struct.pack(">II", len(MORE), 60_001))
    reply = await world.stub.Upscale(pb.UpscaleRequest(model="big", image=hurt, metadata=KEEP))
    assert reply.warnings == ["its extended XMP is damaged and was dropped"]


async def test_texts_of_a_png_become_fields_where_there_are_some(world: Any) -> None:
    info = PngInfo()
    for keyword, words in {"Author": "me", "Creation Time": "Sat, 28 Nov 2026 01:02:03 +0100", "prompt": "x"}.items():
        info.add_text(keyword, words, zip=True)
    output = io.BytesIO()
    Image.fromarray(noise(8, 8)).save(output, "PNG", pnginfo=info, exif=exif())
    request = pb.UpscaleRequest(model="big", image=output.getvalue(), metadata=KEEP)
    for format, name in ((JPEG, "JPEG"), (WEBP, "WebP")):
        request.encoding.format = format
        reply = await world.stub.Upscale(request)
        found = opened(reply.image.data).getexif()
        assert (found[0x010F], found[0x013B], found[0x0132]) == ("Maker", "me", "2026:11:28 01:02:03")
        assert found.get_ifd(0x8769)[0x9003] == "2026:11:28 01:02:03"
        assert reply.warnings == [f"text(s) were dropped, for which {name} has no place; PNG has: prompt"]


async def test_damaged_blocks_cost_themselves(world: Any) -> None:
    for damage in (b"", b"II*\0", b"II*\0\xff\xff\xff\xff", exif()[:60], b"junk" * 9):
        output = io.BytesIO()
        Image.fromarray(noise(8, 8)).save(output, "PNG", exif=damage or b"\0")
        reply = await world.stub.Upscale(pb.UpscaleRequest(model="big", image=output.getvalue(), metadata=KEEP))
        assert reply.warnings == ["its EXIF is damaged and was dropped"]
        assert "exif" not in opened(reply.image.data).info


def directory(entries: list[tuple[int, int, int, int]], said: int | None = None) -> bytes:
    """Of entries whose numbers are long, perhaps with a count that is not theirs."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries) if said is None else said) + packed + bytes(4)


TIFF = b"II*\0" + struct.pack("<I", 8)
SAID_FAR_MORE = TIFF + directory([(1, 4, 1, 1)] * 2048, 5000)
# The first directory lies in the thumbnail that is taken out.
IN_THUMBNAIL = b"II*\0" + struct.pack("<I", 60) + directory([(0x0201, 4, 1, 50), (0x0202, 4, 1, 30)]) + bytes(12)
IN_THUMBNAIL = IN_THUMBNAIL[:50] + b"\xff\xd8" + bytes(8) + struct.pack("<HHHIII", 1, 1, 4, 1, 1, 8)


@pytest.mark.parametrize("format", [JPEG, WEBP])
@pytest.mark.parametrize(
    ("damage", "warned"),
    [
        (b"eXIf" + SAID_FAR_MORE, ["its EXIF is damaged and was dropped"]),
        (b"eXIf" + IN_THUMBNAIL, ["its EXIF is damaged and was dropped"]),
        (b"tEXtRaw profile type x\0iptc 5" + b" " * 100_000 + b"!", []),
        (b"tEXtCreation Time\0Mon, 1 Jan 99999999999999999999 00:00:00 +0000", ["Creation Time"]),
        (b"tEXtCreation Time\0Mon, 1 Jan 2026 00:00:00 +99999999999999999999", ["Creation Time"]),
    ],
)
async def test_hostile_metadata_costs_itself(world: Any, damage: bytes, warned: list[str], format: int) -> None:
    plain = world.png(noise(8, 8))
    extra = chunk(b"tEXt", b"Title\0me") + chunk(damage[:4], damage[4:])
    request = pb.UpscaleRequest(model="big", image=plain[:33] + extra + plain[33:], metadata=KEEP)
    request.encoding.format = format  # type: ignore[assignment]
    reply = await world.stub.Upscale(request)
    assert len(reply.warnings) == len(warned)
    assert all(part in said for part, said in zip(warned, reply.warnings, strict=True))
    assert opened(reply.image.data).getexif()[0x010D] == "me"


async def test_damaged_profiles_count_as_what_they_were_expanded_to(serve: Any) -> None:
    async with serve(max_metadata_bytes=600) as world:
        plain = world.png(noise(8, 8))
        extra = chunk(b"zTXt", b"Raw profile type x\0\0" + zlib.compress(bytes(900))) * 3
        request = pb.UpscaleRequest(model="big", image=plain[:33] + extra + plain[33:], metadata=KEEP)
        assert "max_metadata_bytes" in await world.refusal(world.stub.Upscale(request))


async def test_a_text_that_is_too_long_for_a_jpeg_leaves_its_exif(world: Any) -> None:
    output = io.BytesIO()
    info = PngInfo()
    info.add_text("Description", "long " * 2000)
    Image.fromarray(noise(8, 8)).save(output, "PNG", pnginfo=info, exif=exif() + bytes(60_000))
    request = pb.UpscaleRequest(model="big", image=output.getvalue(), metadata=KEEP)
    request.encoding.format = JPEG
    reply = await world.stub.Upscale(request)
    assert reply.warnings == ["text(s) were dropped: a JPEG holds 65527 bytes of EXIF; PNG holds more"]
    assert opened(reply.image.data).getexif()[0x010F] == "Maker"


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


GAMMA_1 = chunk(b"gAMA", struct.pack(">I", 100_000))
P3 = chunk(b"cICP", bytes([12, 13, 0, 1]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("format", [JPEG, WEBP])
async def test_what_a_png_says_of_its_colours_becomes_a_profile(world: Any, channels: int, format: int) -> None:
    """A linear ramp of light looks in the returned file as it did: mid-grey light is 188 of 255 in sRGB."""
    plain = world.png(np.full((16, 16, channels), 128, np.uint8))
    request = pb.UpscaleRequest(model="big", image=plain[:33] + GAMMA_1 + plain[33:])
    request.encoding.format = format  # type: ignore[assignment]
    image = opened((await world.stub.Upscale(request)).image.data)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    shown = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert shown is not None
    assert np.abs(np.asarray(shown).astype(int) - 188).max() <= 2


def test_profiles_of_primaries_are_those_that_colour_management_knows() -> None:
    made = profile_of(P3, False)
    assert made is not None
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    lab = ImageCms.createProfile("LAB")
    shown = ImageCms.profileToProfile(red, ImageCms.ImageCmsProfile(io.BytesIO(made)), lab, outputMode="LAB")
    assert shown is not None
    lightness, a, b = shown.getpixel((0, 0))  # type: ignore[misc]
    assert (round(lightness / 2.55), a - 128, b - 128) == pytest.approx((56, 94, 99), abs=2), "P3's red, as in CSS"
    srgb = chunk(b"cICP", bytes([1, 13, 0, 1]))
    for nothing in (
        b"",
        srgb,
        chunk(b"sRGB", b"\0") + GAMMA_1,
        chunk(b"gAMA", struct.pack(">I", 45455)),
        chunk(b"cICP", bytes([9, 16, 0, 1])),
    ):
        assert profile_of(nothing, False) is None
    for hostile in (bytes(32), b"\xff" * 32, struct.pack(">8I", *[31270] * 8)):
        assert profile_of(GAMMA_1 + chunk(b"cHRM", hostile), False) is None


async def test_hdr_that_a_format_cannot_tell_is_said(world: Any) -> None:
    plain = world.png(noise(8, 8))
    hdr = plain[:33] + chunk(b"cICP", bytes([9, 16, 0, 1])) + plain[33:]
    request = pb.UpscaleRequest(model="big", image=hdr, encoding=pb.Encoding(format=JPEG))
    reply = await world.stub.Upscale(request)
    assert reply.warnings == ["its HDR (PQ or HLG) cannot be told in JPEG; PNG keeps it"]
    request.encoding.format = PNG
    assert not (await world.stub.Upscale(request)).warnings
