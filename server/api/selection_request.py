"""GenerateRequest with best_of or rejection -> one for all candidates, and how one of them is chosen for each image."""

import math

from ganserve.v1 import images_pb2 as pb
from server.api.latent_request import check_numbers
from server.api.limits import Limits
from server.errors import InvalidRequest
from server.images.critic import Critic
from server.images.selection import MAX_TRIES, AtLeast, DiscriminatorRejection, Rule, Selection, candidate_seeds

DEFAULT_TRIES = 16
# Fields that have one value for all images or one for each.
_EACH = ("labels", "truncations", "noise_seeds", "transforms", "towards")


def read_selection(request: pb.GenerateRequest, critic: Critic | None) -> Selection | None:
    """How images are chosen; None if each is what its seed gives.

    Raises:
        InvalidRequest: out of range, contradictory, not of seeds, or the model has no critic.
    """
    has_rule = request.HasField("rejection")
    if not request.best_of and not has_rule:
        return None
    field = "rejection" if has_rule else "best_of"
    if request.best_of and has_rule:
        raise InvalidRequest("best_of: given together with rejection; set one of them")
    if critic is None:
        raise InvalidRequest(f"{field}: model {request.model!r} has no critic: export it with --discriminator")
    what = request.WhichOneof("what")
    if what in ("latents", "ws"):
        raise InvalidRequest(f"{field}: given together with {what}; candidates are made of seeds: set seeds or count")
    if not has_rule:
        _check_tries("best_of", request.best_of)
        return Selection(critic, request.best_of)
    tries = request.rejection.max_tries or DEFAULT_TRIES
    _check_tries("rejection.max_tries", tries)
    return Selection(critic, tries, _rule(request.rejection))


def with_candidates(request: pb.GenerateRequest, seeds: list[int], tries: int, limits: Limits) -> pb.GenerateRequest:
    """The same request for every candidate of images of those seeds.

    Raises:
        InvalidRequest: a field that is neither one for all images nor one for each, or too many changes.
        ImageTooLarge: more candidates than one call may have.
    """
    n = len(seeds)
    check_numbers(request)
    limits.check_count(f"{n} images of {tries} candidates each", n * tries)
    found = pb.GenerateRequest()
    found.CopyFrom(request)
    found.ClearField("first_seed")
    found.seeds.values[:] = candidate_seeds(seeds, tries)
    for name in _EACH:
        _repeat(name, getattr(found, name), n, tries)
    for edit in found.edits:
        _repeat("edits.strengths", edit.strengths, n, tries)
    for mix in found.mixes:
        _repeat("mixes.seeds", mix.seeds, n, tries)
    return found


def _repeat(name: str, values: "object", n: int, tries: int) -> None:
    given = list(values)  # type: ignore[call-overload]
    if len(given) not in (0, 1, n):
        raise InvalidRequest(f"{name}: {len(given)} given for {n} images; give one for all or one for each")
    if len(given) > 1:
        del values[:]  # type: ignore[attr-defined]
        values.extend(each for each in given for _ in range(tries))  # type: ignore[attr-defined]


def _check_tries(field: str, tries: int) -> None:
    if not 1 <= tries <= MAX_TRIES:
        raise InvalidRequest(f"{field}: {tries}; must be 1 to {MAX_TRIES}")


def _rule(rejection: pb.Rejection) -> Rule:
    kind = rejection.WhichOneof("rule")
    if kind is None:
        raise InvalidRequest("rejection: no rule; set min_percentile or drs_percentile")
    percentile = float(getattr(rejection, kind))
    if not (math.isfinite(percentile) and 0 <= percentile <= 100):
        raise InvalidRequest(f"rejection.{kind}: {percentile:g}; must be 0 to 100")
    return AtLeast(percentile) if kind == "min_percentile" else DiscriminatorRejection(percentile)
