"""How images are chosen among candidates, in requests."""

from ganserve.client.errors import InvalidRequest
from ganserve.v1 import images_pb2 as pb

MAX_TRIES = 64
DEFAULT_TRIES = 16  # the server's


def write_selection(
    request: pb.GenerateRequest,
    best_of: int | None,
    min_percentile: float | None,
    drs_percentile: float | None,
    max_tries: int | None,
) -> None:
    """Fills in what is given.

    Raises:
        InvalidRequest: several of the first three, out of range, or max_tries without a rule.
    """
    ways = {"best_of": best_of, "min_percentile": min_percentile, "drs_percentile": drs_percentile}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise InvalidRequest(f"pass one of {', '.join(ways)}; got {' and '.join(given)}")
    if max_tries is not None and given not in (["min_percentile"], ["drs_percentile"]):
        raise InvalidRequest("max_tries goes with min_percentile or drs_percentile")
    for name, tries in (("best_of", best_of), ("max_tries", max_tries)):
        if tries is not None and not 1 <= tries <= MAX_TRIES:
            raise InvalidRequest(f"{name} must be 1 to {MAX_TRIES}, got {tries}")
    for name, percentile in (("min_percentile", min_percentile), ("drs_percentile", drs_percentile)):
        if percentile is not None:
            if not 0 <= percentile <= 100:
                raise InvalidRequest(f"{name} must be 0 to 100, got {percentile}")
            setattr(request.rejection, name, percentile)
    request.best_of = best_of or 0
    if max_tries is not None:
        request.rejection.max_tries = max_tries


def tries_of(request: pb.GenerateRequest) -> int:
    """Candidates of each image at most."""
    if request.HasField("rejection"):
        return request.rejection.max_tries or DEFAULT_TRIES
    return max(1, request.best_of)
