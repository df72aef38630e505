"""Edits, mixes, truncation by layer and towards centres, transforms and the size in JSON -> a GenerateRequest."""

import reprlib
from collections.abc import Mapping
from typing import Any

from ganserve.v1 import images_pb2 as pb
from server.api.rest.fields import (
    check_fields,
    check_length,
    check_many,
    extend,
    one_or_many,
    read_integer,
    read_json_number,
    read_number,
    read_text,
    set_field,
)
from server.errors import InvalidRequest

_EDIT_FIELDS = ("direction", "strength", "strengths", "layers", "without")
_MIX_FIELDS = ("seed", "seeds", "layers")
_TOWARD_FIELDS = ("seed", "share")


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
        for name in check_many("edits.without", without if isinstance(without, list) else [without]):
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
    center = fields.get("truncation_center", "")
    center = center if isinstance(center, str) else str(read_integer("truncation_center", center))
    message.truncation_center = check_length("truncation_center", center)
    for each in _objects(fields, "towards", _TOWARD_FIELDS):
        share = read_json_number("towards.share", each.get("share", 0))
        set_field(message.towards.add(share=share), "seed", read_integer("towards.seed", each.get("seed")))
    if "size" in fields:
        set_field(message, "size", read_integer("size", fields["size"]))
    _read_transforms(message, fields)
    wanted = fields.get("return_w", False)
    if not isinstance(wanted, bool):
        raise InvalidRequest(f"return_w: must be true or false, got {reprlib.repr(wanted)}")
    message.return_w = wanted


SELECTION_FIELDS = ("best_of", "min_percentile", "drs_percentile", "max_tries")


def read_selection(message: pb.GenerateRequest, fields: Mapping[str, Any]) -> None:
    """Fills in how images are chosen among candidates. The values may be the texts of an address.

    Raises:
        InvalidRequest: a field of another type, both rules, or max_tries without one.
    """
    if "best_of" in fields:
        set_field(message, "best_of", read_integer("best_of", fields["best_of"]))
    given = [name for name in SELECTION_FIELDS[1:] if name in fields]
    if "min_percentile" in given and "drs_percentile" in given:
        raise InvalidRequest("min_percentile: given together with drs_percentile; set one of them")
    if given == ["max_tries"]:
        raise InvalidRequest("max_tries: given without min_percentile or drs_percentile")
    for name in given:
        if name == "max_tries":
            set_field(message.rejection, name, read_integer(name, fields[name]))
        else:
            setattr(message.rejection, name, read_number(name, fields[name]))


def _read_transforms(message: pb.GenerateRequest, fields: Mapping[str, Any]) -> None:
    """`translate`, [x, y] or an array of them, with `rotate`, degrees or an array of them; one of either for all or one
    for each."""
    if "translate" not in fields and "rotate" not in fields:
        return
    moves, turns = fields.get("translate", [0, 0]), fields.get("rotate", 0)
    moves = moves if isinstance(moves, list) and moves and isinstance(moves[0], list) else [moves]
    turns = turns if isinstance(turns, list) else [turns]
    for move in moves:
        if not isinstance(move, list) or len(move) != 2:
            raise InvalidRequest(f"translate: {reprlib.repr(move)} is not [x, y]")
    n = max(len(moves), len(turns))
    if len(moves) not in (1, n) or len(turns) not in (1, n):
        raise InvalidRequest(f"translate, rotate: {len(moves)} and {len(turns)} given; give as many of both, or one")
    for index in range(n):
        x, y = (read_json_number("translate", value) for value in moves[index % len(moves)])
        message.transforms.add(
            translate_x=x, translate_y=y, rotate=read_json_number("rotate", turns[index % len(turns)])
        )


def _objects(fields: Mapping[str, Any], field: str, known: tuple[str, ...]) -> list[Mapping[str, Any]]:
    found = fields.get(field, [])
    found = [found] if isinstance(found, dict) else found
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InvalidRequest(f"{field}: must be an array of objects with {', '.join(known)}; got {reprlib.repr(found)}")
    for each in check_many(field, found):
        check_fields(each, known)
    return found
