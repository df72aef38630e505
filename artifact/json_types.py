"""JSON read into dataclasses: every value has the type that its field declares, or the error says where it has not."""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

# Integers beyond this are not the same in every reader of JSON.
MAX_INT = (1 << 53) - 1
MAX_SHOWN = 60

_NAMES = {str: "text", int: "an integer", float: "a number", bool: "true or false", NoneType: "null"}


class JsonTypeError(ValueError):
    """A value that is not what was declared; the text names its place, what was found and what was expected."""


def parse(text: str) -> Any:
    """The value of a JSON document, without NaN and infinity.

    Raises:
        JsonTypeError: not JSON, nested too deeply, or a number with thousands of digits.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise JsonTypeError("nested too deeply") from None
    except ValueError as error:
        raise JsonTypeError(f"not JSON: {error}") from None


def build(kind: Any, value: Any, where: str = "") -> Any:
    """`value` as `kind`: a dataclass, str, int, float, bool, an enumeration, tuple[...], Mapping[str, ...], a union.

    Args:
        where: the value's place for error texts, such as `tile.size_px`.

    Raises:
        JsonTypeError: it is not of that type.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return _union(arguments, value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin is not None and issubclass(origin, Mapping):
        return {_text(key, where): build(arguments[1], each, _at(where, key)) for key, each in _object(value, where)}
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        if value not in list(kind):
            raise _wrong(value, where, f"one of {', '.join(kind)}")
        return kind(value)
    return _plain(kind, value, where)


def _plain(kind: Any, value: Any, where: str) -> Any:
    if kind is str:
        return _text(value, where)
    if kind is float and type(value) is int:
        value = float(_integer(value, where))
    if type(value) is not kind:
        raise _wrong(value, where, _NAMES[kind])
    if kind is int:
        return _integer(value, where)
    if kind is float and not math.isfinite(value):  # 1e999
        raise _wrong(value, where, "a finite number")
    return value


def _integer(value: int, where: str) -> int:
    if abs(value) > MAX_INT:
        raise JsonTypeError(f"{where}: an integer beyond {MAX_INT}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(value, where, _NAMES[str])
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which no message can carry
            raise _wrong(value, where, "text of whole characters") from None
    return value


def _union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    wanted = [kind for kind in kinds if kind is not NoneType]
    exact = [kind for kind in wanted if kind is type(value)]  # true is no integer, 1 no float
    if not exact and len(wanted) > 1:
        raise _wrong(value, where, " or ".join(_NAMES[kind] for kind in wanted))
    return build((exact or wanted)[0], value, where)


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _wrong(value, where, "a list")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _wrong(value, where, f"a list of {len(kinds)}")
    return tuple(
        build(kind, each, f"{where}[{index}]") for index, (kind, each) in enumerate(zip(kinds, value, strict=True))
    )


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    declared = _declared(kind)
    found = {}
    for key, each in _object(value, where):
        if key not in declared:
            raise JsonTypeError(f"{_at(where, key)}: unknown key")
        found[key] = build(declared[key], each, _at(where, key))
    for field in fields(kind):
        if field.name not in found and field.default is MISSING and field.default_factory is MISSING:
            raise JsonTypeError(f"{_at(where, field.name)} is missing")
    return kind(**found)


@cache
def _declared(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _object(value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(value, where, "an object")
    return value.items()


def _at(where: str, key: str) -> str:
    shown = key if key.isidentifier() else repr(key[:MAX_SHOWN])
    return f"{where}.{shown}" if where else shown


def _wrong(value: Any, where: str, expected: str) -> JsonTypeError:
    shown = repr(value) if isinstance(value, str | bool | int | float | None) else type(value).__name__
    return JsonTypeError(f"{f'{where} is ' if where else ''}{shown[:MAX_SHOWN]}, must be {expected}")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
