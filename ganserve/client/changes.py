"""Edits, mixes and truncation by layer: Python arguments -> fields of a GenerateRequest, and of one for some of its
images."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ganserve.client.errors import InvalidRequest
from ganserve.client.options import Edit, Mix, Seeds, Strengths
from ganserve.v1 import images_pb2 as pb


def write_changes(
    request: pb.GenerateRequest,
    edits: Mapping[str | int, Strengths] | Sequence[Edit],
    mixes: Sequence[Mix],
    layer_truncations: Sequence[float] | None,
    truncation_cutoff: int | None,
    checked_seeds: Callable[[str, Seeds], Iterable[int]],
) -> None:
    """Fills in what is changed of the latents.

    Raises:
        InvalidRequest: a value that no server accepts.
    """
    given = [Edit(name, strength) for name, strength in edits.items()] if isinstance(edits, Mapping) else edits
    for edit in given:
        strengths, without = np.atleast_1d(edit.strength).tolist(), map(str, edit.without)
        request.edits.add(direction=str(edit.direction), strengths=strengths, layers=edit.layers, without=without)
    for mix in mixes:
        request.mixes.add(seeds=checked_seeds("mixes", mix.seeds), layers=mix.layers)
    request.layer_truncations.extend([] if layer_truncations is None else layer_truncations)
    if truncation_cutoff is not None:
        if not 0 <= truncation_cutoff < 1 << 32:
            raise InvalidRequest(f"truncation_cutoff must be 0 (all) or more, got {truncation_cutoff}")
        request.truncation_cutoff = truncation_cutoff


def select_changes(request: pb.GenerateRequest, selected: pb.GenerateRequest, indexes: Sequence[int]) -> None:
    """Fills in those of `request` for some of its images."""
    selected.edits.extend(request.edits)
    for edit in selected.edits:
        if len(edit.strengths) > 1:  # one for each image
            edit.strengths[:] = [edit.strengths[index] for index in indexes]
    selected.mixes.extend(request.mixes)
    for mix in selected.mixes:
        if len(mix.seeds) > 1:
            mix.seeds[:] = [mix.seeds[index] for index in indexes]
    selected.layer_truncations.extend(request.layer_truncations)
    if request.HasField("truncation_cutoff"):
        selected.truncation_cutoff = request.truncation_cutoff
    selected.return_w = request.return_w
