"""Edits, mixes and truncation by layer in JSON -> a GenerateRequest."""

import reprlib
from collections.abc import Mapping
from typing import Any

from ganserve.v1 import images_pb2 as pb
from server.api.rest.fields import (
    check_fields,
    extend,
    one_or_many,
    read_integer,
    read_json_number,
    read_text,
    set_field,
)
from server.errors import InvalidRequest

_EDIT_FIELDS = ("direction", "strength", "strengths", "layers", "without")
_MIX_FIELDS = ("seed", "seeds", "layers")


def read_changes(message: pb.GenerateRequest, fields: Mapping[str, Any]) -> None:
    """Fills in what is changed of the latents.

    Raises:
        InvalidRequest: a field of another type, or an unknown one.
    """
    for each in _objects(fields, "edits", _EDIT_FIELDS):
        edit = message.edits.add(direction=read_text(each, "direction"), layers=read_text(each, "layers"))
        for value in one_or_many(each, "strength", "strengths") or []:
            edit.strengths.append(read_json_number("edits.strengths", value))
        without = each.get("without", [])
        for name in without if isinstance(without, list) else [without]:
            edit.without.append(read_text({"edits.without": name}, "edits.without"))
    for each in _objects(fields, "mixes", _MIX_FIELDS):
        seeds = [read_integer("mixes.seeds", seed) for seed in one_or_many(each, "seed", "seeds") or []]
        extend(message.mixes.add(layers=read_text(each, "layers")).seeds, "mixes.seeds", seeds)
    psis = fields.get("layer_truncations", [])
    if not isinstance(psis, list):
        raise InvalidRequest(f"layer_truncations: must be an array, a number for each layer; got {reprlib.repr(psis)}")
    message.layer_truncations.extend(read_json_number("layer_truncations", value) for value in psis)
    if "truncation_cutoff" in fields:
        set_field(message, "truncation_cutoff", read_integer("truncation_cutoff", fields["truncation_cutoff"]))
    wanted = fields.get("return_w", False)
    if not isinstance(wanted, bool):
        raise InvalidRequest(f"return_w: must be true or false, got {reprlib.repr(wanted)}")
    message.return_w = wanted


def _objects(fields: Mapping[str, Any], field: str, known: tuple[str, ...]) -> list[Mapping[str, Any]]:
    found = fields.get(field, [])
    found = [found] if isinstance(found, dict) else found
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InvalidRequest(f"{field}: must be an array of objects with {', '.join(known)}; got {reprlib.repr(found)}")
    for each in found:
        check_fields(each, known)
    return found
