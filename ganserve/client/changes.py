"""Edits, mixes, truncation by layer, transforms and the size: Python arguments -> fields of a GenerateRequest, and of
one for some of its images."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ganserve.client.errors import InvalidRequest
from ganserve.client.options import Edit, Mix, Seeds, Strengths, Translations
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


def write_transforms(
    request: pb.GenerateRequest, translate: Translations | None, rotate: float | Sequence[float] | None
) -> None:
    """Fills in how a StyleGAN3's images are moved and turned.

    Raises:
        InvalidRequest: not pairs of numbers, or not one for all or as many of one as of the other.
    """
    if translate is None and rotate is None:
        return
    moves = np.atleast_2d(np.asarray((0, 0) if translate is None else translate, np.float32))
    turns = np.atleast_1d(np.asarray(0 if rotate is None else rotate, np.float32))
    n = max(len(moves), len(turns))
    if moves.shape[1:] != (2,) or turns.ndim != 1 or len(moves) not in (1, n) or len(turns) not in (1, n):
        raise InvalidRequest(
            "translate must be (x, y) or one for each image, and rotate degrees likewise; "
            f"got {moves.shape} and {turns.shape}"
        )
    for (x, y), degrees in zip(np.resize(moves, (n, 2)).tolist(), np.resize(turns, n).tolist(), strict=True):
        request.transforms.add(translate_x=x, translate_y=y, rotate=degrees)


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
    transforms = request.transforms
    selected.transforms.extend(transforms if len(transforms) < 2 else [transforms[index] for index in indexes])
    selected.towards.extend(request.towards if len(request.towards) < 2 else [request.towards[i] for i in indexes])
    selected.truncation_center, selected.size = request.truncation_center, request.size
    selected.return_w = request.return_w
