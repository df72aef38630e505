"""The colours that the chunks of a PNG state, as an ICC profile for formats that have nothing else.

A profile of version 2 (ICC.1:2001-04): three primaries and one curve, or of grey the curve alone. PNG 3 says which
chunk counts where several are: cICP, then iCCP, sRGB, gAMA with cHRM. Code points are those of ITU-T H.273.
"""

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Chromaticities = tuple[float, ...]
"""x and y of white, red, green, blue."""

_D65 = (0.3127, 0.3290)
_BT709: Chromaticities = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_PRIMARIES: dict[int, Chromaticities] = {
    1: _BT709,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_SRGB_TRANSFER, _SRGB_GAMMA = 13, 45455
_HDR_TRANSFERS = (16, 18)  # PQ, HLG
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_CURVE_POINTS = 1024
# Of a chromaticity: what is less is rounding.
_LEAST = 1e-3


def _bt709(v: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))


def _srgb(v: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


_TRANSFERS: dict[int, float | Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    1: _bt709, 4: 2.2, 5: 2.8, 6: _bt709, 8: 1.0, _SRGB_TRANSFER: _srgb, 14: _bt709, 15: _bt709,
}  # fmt: skip


def profile_of(chunks: bytes, is_grey: bool) -> bytes | None:
    """The profile; None if the chunks state sRGB, which nothing need be said of, or what no profile can hold."""
    found = _contents(chunks)
    if (points := found.get(b"cICP")) is not None:
        primaries, transfer = _PRIMARIES.get(points[0]), _TRANSFERS.get(points[1])
        if primaries is None or transfer is None or (primaries, points[1]) == (_BT709, _SRGB_TRANSFER):
            return None
        return _profile(primaries, _curve(transfer), is_grey)
    if b"sRGB" in found or b"gAMA" not in found:
        return None
    (gamma,) = struct.unpack(">I", found[b"gAMA"])
    numbers = struct.unpack(">8I", found.get(b"cHRM") or struct.pack(">8I", *(round(n * 1e5) for n in _BT709)))
    primaries = tuple(n / 1e5 for n in numbers)
    same = max(abs(here - there) for here, there in zip(primaries, _BT709, strict=True)) < _LEAST
    if (abs(gamma - _SRGB_GAMMA) < 100 and same) or not 1 << 10 < gamma < 1 << 20:
        return None
    return _profile(primaries, _curve(1e5 / gamma), is_grey)


def is_hdr(chunks: bytes) -> bool:
    """Whether the samples stand for more light than a screen's white, which a profile of this version cannot say."""
    points = _contents(chunks).get(b"cICP")
    return points is not None and points[1] in _HDR_TRANSFERS


def _contents(chunks: bytes) -> dict[bytes, bytes]:
    found, at = {}, 0
    while at + 12 <= len(chunks):
        (size,) = struct.unpack_from(">I", chunks, at)
        found[chunks[at + 4 : at + 8]] = chunks[at + 8 : at + 8 + size]
        at += 12 + size
    return found


def _curve(transfer: float | Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> bytes:
    """From samples to light."""
    if callable(transfer):
        light = transfer(np.linspace(0, 1, _CURVE_POINTS))
        values = np.rint(light * 65_535).astype(">u2")
    else:
        values = np.array([round(transfer * 256)], ">u2")
    return b"curv" + struct.pack(">II", 0, len(values)) + values.tobytes()


def _profile(chromaticities: Chromaticities, curve: bytes, is_grey: bool) -> bytes | None:
    points = np.array(chromaticities).reshape(4, 2)
    if (points <= 0).any() or (points.sum(axis=1) > 1 + _LEAST).any():
        return None
    xyz = np.column_stack([points[:, 0] / points[:, 1], np.ones(4), (1 - points.sum(axis=1)) / points[:, 1]]).T
    white, primaries = xyz[:, 0], xyz[:, 1:]
    try:
        scaled = primaries * np.linalg.solve(primaries, white)
    except np.linalg.LinAlgError:
        return None
    cones = _BRADFORD @ _D50 / (_BRADFORD @ white)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD @ scaled
    if not (np.isfinite(adapted).all() and np.abs(adapted).max() < 4):
        return None
    name = b"of the PNG's chunks\0"
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, len(name)) + name + bytes(78),
        b"cprt": b"text\0\0\0\0No copyright\0",
        b"wtpt": _xyz(_D50),
    }
    if is_grey:
        tags[b"kTRC"] = curve
    else:
        for column, letter in enumerate((b"r", b"g", b"b")):
            tags[letter + b"XYZ"] = _xyz(adapted[:, column])
            tags[letter + b"TRC"] = curve
    return _assembled(tags, b"GRAY" if is_grey else b"RGB ")


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(n) * 65_536) for n in values))


def _assembled(tags: dict[bytes, bytes], space: bytes) -> bytes:
    """Header, table and data; equal data lies there once."""
    start = 132 + 12 * len(tags)
    table, data, places = b"", b"", dict[bytes, int]()
    for name, content in tags.items():
        if content not in places:
            places[content] = start + len(data)
            data += content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", places[content], len(content))
    header = struct.pack(">I4sI4s4s4s", start + len(data), bytes(4), 0x02100000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _xyz(_D50)[8:] + bytes(48)
    return header + struct.pack(">I", len(tags)) + table + data
