"""GenerateRequest -> Changes: edits, mixes, truncation by layer and towards centres, whether w is returned; and the
transforms of a StyleGAN3. Every field checked."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from artifact.spec import Spec
from ganserve.v1 import images_pb2 as pb
from server.errors import InvalidRequest
from server.images import latents
from server.images.changes import Changes
from server.images.latent_space import Center, LatentSpace

MAX_EDITS = 32
MAX_MIXES = 8
MAX_WITHOUT = 16
# In standard deviations; beyond 5 few generators give images that mean anything.
MAX_STRENGTH = 100.0
# Of a transform, in sides of the image and in degrees. What is drawn far from the middle means little.
MAX_TRANSLATION = 10.0
MAX_DEGREES = 360.0

_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def read_changes(request: pb.GenerateRequest, n: int, space: LatentSpace, psi: NDArray[np.float32] | None) -> Changes:
    """What a request for n images asks to be changed. `psi`: (n,), the images' truncation.

    Raises:
        InvalidRequest: out of range, of a direction or layer that the model does not have, or contradictory.
    """
    spec, is_ws = space.spec, request.WhichOneof("what") == "ws"
    check_numbers(request)
    edits = [_read_edit(edit, n, space) for edit in request.edits]
    if is_ws:
        for field, has in (
            ("mixes", len(request.mixes) > 0),
            ("layer_truncations", len(request.layer_truncations) > 0),
            ("truncation_cutoff", request.HasField("truncation_cutoff")),
            ("truncation_center", bool(request.truncation_center)),
        ):
            if has:
                raise InvalidRequest(f"{field}: given together with ws, which are taken as they are; leave it out")
        return Changes(space, edits, (), None, request.return_w, of_ws=True)
    shares = _read_shares(request, n, space, psi, bool(edits))
    mixes = [_read_mix(mix, n, space.require_w("mixes")[0]) for mix in request.mixes]
    center = _read_center(request.truncation_center, space, shares)
    if spec.w_shape is None:
        return Changes(space, edits, (), None, False)
    return Changes(space, edits, mixes, shares, request.return_w, center=center)


def check_numbers(request: pb.GenerateRequest) -> None:
    """Checks how many changes there are.

    Raises:
        InvalidRequest: too many.
    """
    for field, given, most in (("edits", len(request.edits), MAX_EDITS), ("mixes", len(request.mixes), MAX_MIXES)):
        if given > most:
            raise InvalidRequest(f"{field}: {given} given, at most {most}")


def read_transforms(request: pb.GenerateRequest, n: int, spec: Spec) -> NDArray[np.float32] | None:
    """The input `transform` (n, 3); None for a model without it.

    Raises:
        InvalidRequest: out of range, neither one nor n, or given to a model that does not take it.
    """
    given = request.transforms
    if not spec.takes_transform:
        if given:
            raise InvalidRequest(
                f"transforms: {len(given)} given, but the model has no transform, which StyleGAN3 has; leave them out"
            )
        return None
    if not given:
        return np.zeros((n, 3), np.float32)
    if len(given) not in (1, n):
        raise InvalidRequest(f"transforms: {len(given)} given for {n} images; give one for all or one for each")
    for each in given:
        for field, value, most in (
            ("translate_x", each.translate_x, MAX_TRANSLATION),
            ("translate_y", each.translate_y, MAX_TRANSLATION),
            ("rotate", each.rotate, MAX_DEGREES),
        ):
            if not -most <= value <= most:
                raise InvalidRequest(f"transforms.{field}: {value:g}; must be {-most:g}..{most:g}")
    rows = np.array([(each.translate_x, each.translate_y, each.rotate) for each in given], np.float32)
    return np.broadcast_to(rows, (n, 3)).copy()


def _read_center(text: str, space: LatentSpace, shares: NDArray[np.float32] | None) -> Center:
    """What truncation draws images towards; `shares`: psi of each layer, (n, layers)."""
    if not text:
        return None
    space.require_w("truncation_center")
    count = len(space.centers)
    if not count:
        raise InvalidRequest("truncation_center: the model has none; export it with --truncation-centers 64")
    assert shares is not None, "it is among what needs w"
    if (shares == 1).all():
        raise InvalidRequest("truncation_center: has no effect where psi is 1; set truncations below 1")
    if text == "nearest":
        return "nearest"
    if text.isdecimal() and text.isascii() and len(text) < 6 and int(text) < count:
        return int(text)
    raise InvalidRequest(f"truncation_center: {text[:80]!r}; must be nearest or 0..{count - 1}")


def _read_edit(edit: pb.Edit, n: int, space: LatentSpace) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if len(edit.without) > MAX_WITHOUT:
        raise InvalidRequest(f"edits.without: {len(edit.without)} given, at most {MAX_WITHOUT}")
    space.find("edits", edit.direction)
    if edit.layers and space.directions.space == "latent":
        raise InvalidRequest(f"edits.layers: {edit.layers[:80]!r} given; the model's edits are of the latent, not of w")
    layers = parse_layers("edits.layers", edit.layers, space.layers) if edit.layers else None
    strengths = edit.strengths
    if len(strengths) not in (1, n):
        raise InvalidRequest(
            f"edits.strengths: {len(strengths)} given for {n} images; give one for all or one for each"
        )
    for strength in strengths:
        if not -MAX_STRENGTH <= strength <= MAX_STRENGTH:
            raise InvalidRequest(f"edits.strengths: {strength:g}; must be {-MAX_STRENGTH:g}..{MAX_STRENGTH:g}")
    return space.step(edit.direction, layers, edit.without), np.resize(np.array(strengths, np.float32), n)


def _read_mix(mix: pb.Mix, n: int, layers: int) -> tuple[Sequence[int], Sequence[int]]:
    if len(mix.seeds) not in (1, n):
        raise InvalidRequest(f"mixes.seeds: {len(mix.seeds)} given for {n} images; give one for all or one for each")
    return list(mix.seeds) * (1 if len(mix.seeds) == n else n), parse_layers("mixes.layers", mix.layers, layers)


def _read_shares(
    request: pb.GenerateRequest, n: int, space: LatentSpace, psi: NDArray[np.float32] | None, edited: bool
) -> NDArray[np.float32] | None:
    """Psi of each layer (n, layers); None if nothing that is requested needs w."""
    spec = space.spec
    fields = {
        "mixes": bool(request.mixes),
        "layer_truncations": bool(request.layer_truncations),
        "truncation_cutoff": request.HasField("truncation_cutoff"),
        "return_w": request.return_w,
        "truncation_center": bool(request.truncation_center),
        "edits": edited and space.directions.space == "w",
    }
    needing = next((field for field, given in fields.items() if given), None)
    if needing is None:
        return None
    layers, _ = space.require_w(needing)
    assert psi is not None, "what has w has truncation"
    if request.layer_truncations:
        return _read_layer_truncations(request, n, spec, layers)
    cutoff = request.truncation_cutoff if request.HasField("truncation_cutoff") else spec.truncation_cutoff
    if cutoff > layers:
        raise InvalidRequest(f"truncation_cutoff: {cutoff}; must be 0 (all) to {layers}, the layers of w")
    truncated = np.arange(layers) < (cutoff or layers)
    return np.where(truncated, psi[:, None], np.float32(1)).astype(np.float32)


def _read_layer_truncations(request: pb.GenerateRequest, n: int, spec: Spec, layers: int) -> NDArray[np.float32]:
    values = request.layer_truncations
    if request.truncations or request.HasField("truncation_cutoff"):
        other = "truncations" if request.truncations else "truncation_cutoff"
        raise InvalidRequest(f"layer_truncations: given together with {other}; set one of them")
    if len(values) != layers:
        raise InvalidRequest(f"layer_truncations: {len(values)} given; the model has {layers} layers")
    checked = latents.resolve_truncation(values, layers, spec)
    assert checked is not None, "what has w has truncation"
    return np.repeat(checked[None], n, axis=0)


def parse_layers(field: str, text: str, layers: int) -> list[int]:
    """The layers of a text such as "0-3,6", in order.

    Raises:
        InvalidRequest: of another form, or a layer that the model does not have.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise InvalidRequest(f"{field}: {text[:80]!r} is not a list of layers such as 0-3,6")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < layers:
            raise InvalidRequest(f"{field}: {part.strip()!r}; the model has the layers 0..{layers - 1}")
        found.update(range(first, last + 1))
    return sorted(found)
