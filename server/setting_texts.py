"""The server's settings as help and documentation show them."""

from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from server.settings import Panel, Unset


def panel_of(field: FieldInfo) -> Panel:
    """The group that a setting belongs to."""
    return next(each for each in field.metadata if isinstance(each, Panel))


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """The values of a setting that is one of a few words, else ()."""
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def default_text(name: str, field: FieldInfo) -> str:
    """The default for people, such as `256 MiB`, `64,000,000 px`, `3 s` or `every core`; empty if there is none."""
    value = field.default
    if field.is_required():
        return ""
    if value is None:
        return str(next(each for each in field.metadata if isinstance(each, Unset)))
    if name.endswith("_bytes"):
        shift, unit = next((shift, unit) for shift, unit in ((30, "GiB"), (20, "MiB"), (0, "B")) if value >> shift)
        return f"{value / (1 << shift):g} {unit}"
    if name.endswith("_px"):
        return f"{value:,} px"
    return f"{value:g} s" if name.endswith("_s") else str(value)
