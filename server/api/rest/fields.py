"""Fields of JSON, of forms and of addresses as values, each with a text that says what is wrong with it."""

import binascii
import reprlib
from base64 import b64decode
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.api.wire import MAX_FIELDS, MAX_TEXT_BYTES
from server.errors import InvalidRequest

# Fields of protobuf messages that hold a JSON value of a type, the first that exists and has room.
_CHOICES = {
    bool: ("bool_param",),
    int: ("int64_param", "uint64_param", "uint32_param"),
    float: ("double_param",),
    str: ("string_param",),
}


def extend(target: Any, field: str, values: list[int]) -> None:
    """Appends integers to a repeated field of a message.

    Raises:
        InvalidRequest: it is something else.
    """
    try:
        target.extend(values)
    except ValueError as error:
        raise InvalidRequest(f"{field}: {error}") from None


def set_field(message: Any, field: str, value: int) -> None:
    """Sets an integer field of a message.

    Raises:
        InvalidRequest: it is something else.
    """
    try:
        setattr(message, field, value)
    except ValueError as error:
        raise InvalidRequest(f"{field}: {error}") from None


def are_numbers(value: Any) -> bool:
    """Whether arrays of arrays hold nothing but numbers and booleans. To be asked before numpy gets them, which makes
    all values as long as the longest string.
    """
    level = [value]
    while list in (kinds := set(map(type, level))):
        if not kinds <= {list, int, float, bool}:
            return False
        level = list(chain.from_iterable(each for each in level if type(each) is list))
    return kinds <= {int, float, bool}


def read_floats(field: str, value: Any, axes: tuple[int, ...]) -> NDArray[Any]:
    """Numbers as arrays of arrays; `axes`: how many there may be.

    Raises:
        InvalidRequest: it is something else.
    """
    try:
        array = np.array(value if are_numbers(value) else None)
    except ValueError:
        raise InvalidRequest(f"{field}: has rows of different lengths") from None
    if array.dtype.kind not in "iuf" or array.ndim not in axes:
        raise InvalidRequest(f"{field}: must be an array of numbers with {' or '.join(map(str, axes))} axes")
    return array


def read_integer(field: str, value: Any) -> int:
    """Of a JSON number, or of the text of a form or an address.

    Raises:
        InvalidRequest: it is something else.
    """
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRequest(f"{field}: {reprlib.repr(value)} is not an integer")
    return value


def read_number(field: str, value: Any) -> float:
    """Of a JSON number, or of the text of a form or an address.

    Raises:
        InvalidRequest: it is something else.
    """
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(f"{field}: {reprlib.repr(value)} is not a number")


def read_json_number(field: str, value: Any) -> float:
    """Of a JSON number; texts are none.

    Raises:
        InvalidRequest: it is something else.
    """
    if isinstance(value, str):
        raise InvalidRequest(f"{field}: {reprlib.repr(value)} is not a number")
    return read_number(field, value)


def one_or_many(fields: Mapping[str, Any], one: str, many: str) -> list[Any] | None:
    """The values of the field `many`, or the one of `one`; None if neither is there.

    Raises:
        InvalidRequest: both are, or `many` is no array.
    """
    if one in fields and many in fields:
        raise InvalidRequest(f"{one}: given with {many}; set one of them")
    if one in fields:
        return [fields[one]]
    found = fields.get(many)
    if found is not None and not isinstance(found, list):
        raise InvalidRequest(f"{many}: must be an array, got {reprlib.repr(found)}; one value is {one!r}")
    return found


def read_text(fields: Mapping[str, Any], field: str) -> str:
    """A string, or a number as one; empty if there is none.

    Raises:
        InvalidRequest: it is something else.
    """
    value = fields.get(field, "")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return check_text(field, value)


def check_text(field: str, value: Any) -> str:
    """The value, which is a string.

    Raises:
        InvalidRequest: it is something else.
    """
    if not isinstance(value, str):
        raise InvalidRequest(f"{field}: must be a string, got {reprlib.repr(value)}")
    return check_length(field, value)


def check_length(field: str, text: str) -> str:
    """The text, as long as a message may have it.

    Raises:
        InvalidRequest: it is longer.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise InvalidRequest(f"{field}: a text of {len(text)} characters, at most {MAX_TEXT_BYTES}")
    return text


def check_many(field: str, values: list[Any]) -> list[Any]:
    """The values, as many as a message may have.

    Raises:
        InvalidRequest: they are more.
    """
    if len(values) > MAX_FIELDS:
        raise InvalidRequest(f"{field}: {len(values)} given, at most {MAX_FIELDS}")
    return values


def set_choice(target: Any, field: str, value: Any) -> None:
    """Sets the field that fits a JSON value in a message that has one of several, such as a parameter's.

    Raises:
        InvalidRequest: none fits.
    """
    for name in _CHOICES.get(type(value), ()):
        if name in target.DESCRIPTOR.fields_by_name:
            try:
                setattr(target, name, value)
            except ValueError:  # out of its range
                continue
            return
    if isinstance(value, int):
        raise InvalidRequest(f"{field}: {reprlib.repr(value)} is out of range")
    raise InvalidRequest(f"{field}: must be a number, a string or a boolean, got {reprlib.repr(value)}")


def read_choice(fields: Mapping[str, Any], field: str, choices: Mapping[str, int], default: str | None) -> int:
    """The value of a word, any case; 0 if there is none and no default.

    Raises:
        InvalidRequest: it is something else.
    """
    value = fields.get(field, default)
    if value is None:
        return 0
    if not isinstance(value, str) or value.lower() not in choices:
        raise InvalidRequest(f"{field}: must be one of {', '.join(choices)}, got {reprlib.repr(value)}")
    return choices[value.lower()]


def read_flag(fields: Mapping[str, Any], field: str) -> bool:
    """A JSON boolean, or the text of a form or an address; false if there is none.

    Raises:
        InvalidRequest: it is something else.
    """
    value = fields.get(field, False)
    if isinstance(value, str) and value.lower() in ("true", "false", "1", "0"):
        return value.lower() in ("true", "1")
    if not isinstance(value, bool):
        raise InvalidRequest(f"{field}: must be true or false, got {reprlib.repr(value)}")
    return value


def read_labels(labels: Any, fields: Mapping[str, Any]) -> None:
    """`label`, or `labels`, into a message's field.

    Raises:
        InvalidRequest: it is something else.
    """
    for label in check_many("labels", one_or_many(fields, "label", "labels") or []):
        if not isinstance(label, int | str) or isinstance(label, bool):
            raise InvalidRequest(f"labels: {reprlib.repr(label)} is neither a name nor an index")
        labels.append(check_length("labels", str(label)))


def check_fields(fields: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuses fields that do not exist.

    Raises:
        InvalidRequest: it is something else.
    """
    for key in fields:
        if key not in known:
            raise InvalidRequest(f"unknown field {key[:100]!r}; there are {', '.join(known)}")


def read_base64(field: str, value: Any) -> bytes:
    """The bytes of a string in base64.

    Raises:
        InvalidRequest: it is something else.
    """
    if not isinstance(value, str):
        raise InvalidRequest(f"{field}: must be a string in base64")
    try:
        return b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{field}: is not base64") from None
