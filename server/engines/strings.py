"""BYTES tensors: length-prefixed bytes on the wire, arrays of `str` in the engines.

A graph's strings are UTF-8 text: ONNX Runtime's Python interface, the only one that serves here, reads and returns
`str`. So bytes that are no text are refused, in place of a wrong answer.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.errors import ImageTooLarge, InvalidRequest

_SIZE = struct.Struct("<I")
# What an element takes in memory beyond its bytes: an object, and its place in the array.
_OBJECT_BYTES = 64


def held_bytes(array: NDArray[Any]) -> int:
    """What an array takes in memory, its strings included."""
    if array.dtype != np.object_:
        return array.nbytes
    return array.size * _OBJECT_BYTES + sum(map(len, array.flat))


def from_raw(what: str, raw: bytes, count: int, limit_bytes: int) -> NDArray[Any]:
    """The elements of a raw tensor, in one axis.

    Args:
        what: the tensor, for texts.
        limit_bytes: of the elements once they are read (max_message_bytes).

    Raises:
        InvalidRequest: not `count` elements, or one that is not UTF-8.
        ImageTooLarge: they would take more than the limit.
    """
    if count * _SIZE.size > len(raw):
        raise InvalidRequest(f"expected {count} string elements for inference {what}, got {len(raw)} bytes")
    if (needed := count * _OBJECT_BYTES + len(raw)) > limit_bytes:
        text = f"{count} strings become {needed} bytes when they are read, at most {limit_bytes} (max_message_bytes)"
        raise ImageTooLarge(f"inference {what}: {text}")
    array = np.empty(count, np.object_)
    at = 0
    for index in range(count):
        start = at + _SIZE.size
        if start > len(raw):
            raise InvalidRequest(f"expected {count} string elements for inference {what}, got {index}")
        at = start + _SIZE.unpack_from(raw, start - _SIZE.size)[0]
        if at > len(raw):
            raise InvalidRequest(f"inference {what}: element {index} ends {at - len(raw)} bytes beyond the tensor")
        array[index] = _text(what, index, raw[start:at])
    if at < len(raw):
        raise InvalidRequest(f"unexpected number of string elements for inference {what}, expecting {count}")
    return array


def from_contents(what: str, values: Sequence[bytes]) -> NDArray[Any]:
    """The elements of a typed tensor, in one axis.

    Raises:
        InvalidRequest: one is not UTF-8.
    """
    array = np.empty(len(values), np.object_)
    for index, value in enumerate(values):
        array[index] = _text(what, index, value)
    return array


def to_raw(strings: Iterable[str]) -> bytes:
    """The raw form of strings in their order."""
    parts: list[bytes] = []
    for string in strings:
        part = string.encode()
        parts += (_SIZE.pack(len(part)), part)
    return b"".join(parts)


def _text(what: str, index: int, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"inference {what}: element {index} is not UTF-8 at its byte {error.start}; the engine takes strings as "
            "text only, so send bytes that are not text as UINT8, or encoded (base64)"
        ) from None
