"""GeoTIFF: RGB through the model, other bands by bicubic interpolation, the place on earth carried to the new pixels.

The rules for each tag at a factor f follow from GeoTIFF 1.1 (OGC 19-008r4): raster coordinates are multiplied by f,
ground coordinates stay. If pixels are points (GTRasterType 2), the centre of pixel 0 lies at 0, not at 1/2, so that the
new raster coordinate is f I + (f - 1) / 2.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganserve.cli.output import CommandError
from ganserve.client.extras import ICC_PROFILE
from ganserve.client.open_formats import TIFF_STARTS, needed
from ganserve.client.png import Pixels

SCALE, TIEPOINT, TRANSFORMATION, GEO_KEYS, GEO_DOUBLES, GEO_TEXTS = 33550, 33922, 34264, 34735, 34736, 34737
GDAL_METADATA, GDAL_NODATA = 42112, 42113
PLACED = (SCALE, TIEPOINT, TRANSFORMATION, GEO_KEYS)
COPIED = (GEO_KEYS, GEO_DOUBLES, GEO_TEXTS, GDAL_METADATA, GDAL_NODATA)
SUBFILE, MASK = 254, 4
RASTER_TYPE, POINT = 1025, 2
ASCII, SHORT, DOUBLE = 2, 3, 12  # TIFF's types
TYPES = {GEO_KEYS: SHORT, GEO_TEXTS: ASCII, GDAL_METADATA: ASCII, GDAL_NODATA: ASCII}
CALLED = "ganserve: details were invented by"


@dataclass(frozen=True)
class GeoTiff:
    """The first page: (H, W, bands), its place tags by number, the mask of pixels without data, which bands are RGB."""

    pixels: NDArray[Any]
    tags: dict[int, Any]
    nodata: float | None
    colours: tuple[int, ...]  # 1 or 3 bands that the model gets
    others: tuple[int, ...] = ()  # what TIFF calls the other bands: 0 is anything, 2 alpha
    icc: bytes | None = None

    @property
    def has_place(self) -> bool:
        """Whether it lies on earth, or is one of the kinds that only tifffile reads: floats, many bands."""
        return any(tag in self.tags for tag in PLACED)

    @property
    def empty(self) -> NDArray[np.bool_]:
        """(H, W): True where there is no data in any band."""
        if self.nodata is None:
            return np.zeros(self.pixels.shape[:2], np.bool_)
        same = np.isnan(self.pixels) if np.isnan(self.nodata) else self.pixels == self.nodata
        return np.asarray(same.all(2))


def read_geotiff(data: bytes) -> GeoTiff | None:
    """The picture with its place, or of a kind that Pillow does not read; None if it is neither.

    Raises:
        UnreadableFile: it is one, and tifffile is not installed.
        CommandError: tifffile cannot read it.
    """
    if not data.startswith(TIFF_STARTS) or not _has_place(data):
        return None
    tifffile = needed("tifffile")
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            pixels = np.asarray(page.asarray())
            tags = {tag.code: tag.value for tag in page.tags if tag.code in (*PLACED, *COPIED)}
            if any(int(each.tags.valueof(SUBFILE) or 0) & MASK for each in file.pages[1:]):
                raise CommandError("its mask is a page of its own; write the missing pixels as a no-data value first")
            separate, colours = page.planarconfig == 2, int(page.photometric) == 2
            others, icc = tuple(map(int, page.extrasamples)), page.tags.valueof(ICC_PROFILE)
    except CommandError:
        raise
    except Exception as error:  # of a damaged file it raises whatever its parsers meet
        raise CommandError(f"not a GeoTIFF that can be read: {error}") from None
    if separate and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, 2)
    pixels = np.atleast_3d(pixels)
    bands = pixels.shape[2]
    return GeoTiff(pixels, tags, _nodata(tags), (0, 1, 2) if bands >= 3 or colours else (0,), others, icc)


def _has_place(data: bytes) -> bool:
    """By Pillow, which is there without an extra; what it cannot open may have one."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return any(tag in image.tag_v2 for tag in PLACED)  # type: ignore[attr-defined]
    except (OSError, SyntaxError, ValueError):
        return True


def _nodata(tags: dict[int, Any]) -> float | None:
    text = str(tags.get(GDAL_NODATA, "")).strip("\0 ")
    try:
        return float(text) if text else None
    except ValueError:
        raise CommandError(f"its value for no data, {text!r}, is not a number") from None


def enlarged(source: GeoTiff, call: Callable[[Pixels], Any]) -> tuple[NDArray[Any], Pixels, Any]:
    """All bands in the size that the model makes, in the type they came in; what the model got, and its result."""
    colours = source.pixels[..., source.colours]
    low, high = _range(colours, source.empty)
    filled = np.where(source.empty[..., None], low, colours)
    levels = _levels(filled, low, high)
    result = call(levels)
    made = result.array
    top = 65535 if made.dtype == np.uint16 else 255
    height, width = made.shape[:2]
    out = np.empty((height, width, source.pixels.shape[2]), source.pixels.dtype)
    for place, band in enumerate(source.colours):
        out[..., band] = _cast(made[..., min(place, made.shape[2] - 1)] / top * (high - low) + low, out.dtype)
    for band in set(range(out.shape[2])) - set(source.colours):
        out[..., band] = _cast(_bicubic(source.pixels[..., band], source.empty, width, height), out.dtype)
    if source.nodata is not None:
        out[_nearest(source.empty, width, height)] = source.nodata
    return out, levels, result


def _range(colours: NDArray[Any], empty: NDArray[np.bool_]) -> tuple[float, float]:
    """What 0 and 1 stand for: the type's whole range for 8 bits, else what the picture has."""
    if colours.dtype == np.uint8:
        return 0.0, 255.0
    seen = colours[~empty]
    seen = seen[np.isfinite(seen)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    return low, high if high > low else low + 1


def _levels(colours: NDArray[Any], low: float, high: float) -> Pixels:
    if colours.dtype == np.uint8:
        return colours.astype(np.uint8)
    share = np.nan_to_num((colours.astype(np.float64) - low) / (high - low))
    return np.asarray(np.rint(share.clip(0, 1) * 65535), np.uint16)


def _cast(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind not in "iu":
        return np.asarray(values, dtype)
    limits = np.iinfo(dtype)
    return np.asarray(np.rint(values).clip(limits.min, limits.max), dtype)


def _bicubic(band: NDArray[Any], empty: NDArray[np.bool_], width: int, height: int) -> NDArray[np.float64]:
    """Of a band, in float32; what has no data does not bleed into its neighbours."""
    known = (~empty).astype(np.float32)
    value = np.where(empty, 0, band).astype(np.float32)
    size = (width, height)
    weight = np.asarray(Image.fromarray(known).resize(size, Image.Resampling.BICUBIC), np.float64)
    total = np.asarray(Image.fromarray(value).resize(size, Image.Resampling.BICUBIC), np.float64)
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0.01)


def _nearest(empty: NDArray[np.bool_], width: int, height: int) -> NDArray[np.bool_]:
    return np.asarray(Image.fromarray(empty).resize((width, height), Image.Resampling.NEAREST))


def cut(source: GeoTiff, width: int, height: int) -> GeoTiff:
    """The middle of the picture that has the ratio of `width` to `height`, in its place."""
    tall, broad = source.pixels.shape[:2]
    ratio = max(width / broad, height / tall)
    across, down = (max(1, min(side, round(wanted / ratio))) for side, wanted in ((broad, width), (tall, height)))
    left, top = (broad - across) // 2, (tall - down) // 2
    tags = dict(source.tags)
    if TIEPOINT in tags:
        points = np.asarray(tags[TIEPOINT], np.float64).reshape(-1, 6) - (left, top, 0, 0, 0, 0)
        tags[TIEPOINT] = tuple(points.ravel().tolist())
    if TRANSFORMATION in tags:
        matrix = np.asarray(tags[TRANSFORMATION], np.float64).reshape(4, 4)
        matrix[:, 3] += matrix[:, 0] * left + matrix[:, 1] * top
        tags[TRANSFORMATION] = tuple(matrix.ravel().tolist())
    return replace(source, pixels=source.pixels[top : top + down, left : left + across], tags=tags)


def write_geotiff(pixels: NDArray[Any], source: GeoTiff, model: str) -> bytes:
    """The file's bytes: deflate, the place for the new size, and that `model` invented the details."""
    height, width = pixels.shape[:2]
    factors = width / source.pixels.shape[1], height / source.pixels.shape[0]
    tags = placed(source.tags, factors)
    extra = [_stored(code, value) for code, value in sorted(tags.items())]
    buffer = io.BytesIO()
    colours = len(source.colours) == 3
    needed("tifffile").imwrite(
        buffer,
        pixels[..., 0] if pixels.shape[2] == 1 else pixels,
        photometric="rgb" if colours else "minisblack",
        planarconfig="contig" if pixels.shape[2] > 1 else None,
        extrasamples=(source.others + (0,) * pixels.shape[2])[: pixels.shape[2] - len(source.colours)] or None,
        iccprofile=source.icc,
        compression="zlib",
        tile=(256, 256),
        metadata=None,
        software=f"{CALLED} {model}" if source.has_place else None,
        extratags=extra,
    )
    return buffer.getvalue()


def _stored(code: int, value: Any) -> tuple[int, int, int | None, Any, bool]:
    """The tag as tifffile writes it: number, type, count, value, only on the first page."""
    if TYPES.get(code) == ASCII:
        return code, ASCII, None, str(value), True
    numbers = tuple(np.atleast_1d(value).tolist())
    return code, TYPES.get(code, DOUBLE), len(numbers), numbers, True


def placed(tags: dict[int, Any], factors: tuple[float, float]) -> dict[int, Any]:
    """The tags of an image that is `factors` (across, down) times as large."""
    across, down = factors
    point = _raster_type(tags.get(GEO_KEYS, ())) == POINT
    shift = ((across - 1) / 2, (down - 1) / 2) if point else (0.0, 0.0)
    made = {code: tags[code] for code in COPIED if code in tags}
    if SCALE in tags:
        x, y, z = tags[SCALE]
        made[SCALE] = (x / across, y / down, z)
    if TIEPOINT in tags:
        points = np.asarray(tags[TIEPOINT], np.float64).reshape(-1, 6)
        points[:, 0] = points[:, 0] * across + shift[0]
        points[:, 1] = points[:, 1] * down + shift[1]
        made[TIEPOINT] = tuple(points.ravel().tolist())
    if TRANSFORMATION in tags:
        matrix = np.asarray(tags[TRANSFORMATION], np.float64).reshape(4, 4)
        matrix[:, 0] /= across
        matrix[:, 1] /= down
        matrix[:, 3] -= matrix[:, 0] * shift[0] + matrix[:, 1] * shift[1]
        made[TRANSFORMATION] = tuple(matrix.ravel().tolist())
    return made


def _raster_type(keys: Sequence[int]) -> int:
    """The value of GTRasterType in the directory of keys: entries of four numbers after a header of four."""
    entries = np.asarray(keys, np.int64)
    entries = entries[4 : len(entries) // 4 * 4].reshape(-1, 4)
    found = entries[entries[:, 0] == RASTER_TYPE]
    return int(found[0, 3]) if len(found) else 1
