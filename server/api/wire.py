"""How much memory a message takes once it is read, known from its bytes: it may be many times more.

An empty sub-message takes 2 bytes on the wire and a hundred in memory, a small number 1 byte and 8. So the fields of a
long message are counted before protobuf reads it.
"""

from collections.abc import Mapping
from functools import cache
from typing import Union

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from server.errors import ImageTooLarge, InvalidRequest

# Shorter messages take a few megabytes at most, whatever is in them.
SMALL_BYTES = 1 << 16
# Of one message, those of its sub-messages included: twice as many as a call for 4,096 labelled images has.
MAX_FIELDS = 1 << 14
# Of a text: names, labels, layers. What an error quotes of one is written character by character.
MAX_TEXT_BYTES = SMALL_BYTES

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZE = {_FIXED64: 8, _FIXED32: 4}
# A packed number may take one byte on the wire, and takes so many in memory.
_PACKED_BYTES = {
    FieldDescriptor.TYPE_INT32: 4,
    FieldDescriptor.TYPE_UINT32: 4,
    FieldDescriptor.TYPE_SINT32: 4,
    FieldDescriptor.TYPE_ENUM: 4,
    FieldDescriptor.TYPE_INT64: 8,
    FieldDescriptor.TYPE_UINT64: 8,
    FieldDescriptor.TYPE_SINT64: 8,
}

# It has a limit of its own, and is not quoted.
_LONG_TEXTS = frozenset({"inference.ModelRepositoryParameter.string_param"})
_TEXT = 0

# By number of a length-delimited field: the layout of its sub-message, the bytes that a byte of it becomes, or _TEXT.
Layout = Mapping[int, Union["Layout", int]]


def check_size(data: bytes, kind: Descriptor, limit_bytes: int) -> None:
    """Returns if the message may be read; a damaged one may: protobuf says what is wrong with it.

    Args:
        limit_bytes: of the message once it is read (max_message_bytes).

    Raises:
        InvalidRequest: it has more than MAX_FIELDS fields, or a text of more than MAX_TEXT_BYTES.
        ImageTooLarge: it would take more memory than the limit.
    """
    if len(data) <= SMALL_BYTES:
        return
    nbytes = fields = 0
    pending: list[tuple[int, int, Layout]] = [(0, len(data), _layout(kind))]
    while pending:
        at, end, layout = pending.pop()
        while at < end:
            fields += 1
            if fields > MAX_FIELDS:
                raise InvalidRequest(f"message: {len(data)} bytes with more than {MAX_FIELDS} fields, the limit")
            tag, at = _varint(data, at)
            size = _FIXED_SIZE.get(tag & 7, 0)
            if tag & 7 == _VARINT:
                _, at = _varint(data, at)
            elif tag & 7 == _BYTES:
                size, at = _varint(data, at)
                inside = layout.get(tag >> 3, 1)
                if inside == _TEXT and size > MAX_TEXT_BYTES:
                    raise InvalidRequest(f"message: a text of {size} bytes, at most {MAX_TEXT_BYTES}")
                if isinstance(inside, int):
                    nbytes += min(size, end - at) * (inside or 1)
                else:
                    pending.append((at, min(at + size, end), inside))
            at += size
    if nbytes > limit_bytes:
        raise ImageTooLarge(
            f"message: {len(data)} bytes that become {nbytes} when they are read, at most {limit_bytes} "
            "(max_message_bytes); send tensors as raw_input_contents"
        )


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at] if at < len(data) else 0
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return value, at


@cache
def _layout(kind: Descriptor) -> Layout:
    layout: dict[int, Layout | int] = {}
    for field in kind.fields:
        if field.message_type is not None:
            layout[field.number] = _layout(field.message_type)
        elif field.is_repeated and field.type in _PACKED_BYTES:
            layout[field.number] = _PACKED_BYTES[field.type]
        elif field.type == FieldDescriptor.TYPE_STRING and field.full_name not in _LONG_TEXTS:
            layout[field.number] = _TEXT
    return layout
