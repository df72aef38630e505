"""ScoreRequest -> ScoreJob: every field checked, the headers read; and the reply."""

import time
from collections.abc import Callable, Sequence

from ganserve.v1 import images_pb2 as pb
from server.api.formats import FITS
from server.api.limits import Limits
from server.api.quotas import charge
from server.errors import InvalidRequest
from server.images.codecs import raw_header
from server.images.critic import Critic
from server.images.header import LONG_BYTES, Header, read_header, takes_long
from server.images.scored import Scored, ScoreJob, check_size, score
from server.images.sizes import Fit
from server.images.workers import Workers, check_time
from server.observability.metrics import Metrics
from server.repository.model import Model


def read_score_request(request: pb.ScoreRequest, critic: Critic, limits: Limits) -> ScoreJob:
    """The pictures that are to be scored, of which nothing is decoded yet.

    Raises:
        InvalidRequest: none, one that is no picture or of another size, or labels that are not the critic's.
        ImageTooLarge: too many, or one of too many pixels.
    """
    n = len(request.images)
    if n == 0:
        raise InvalidRequest("images: 0 given, at least 1")
    limits.check_count("images", n)
    labels = critic.labels(request.labels, n)
    fit = _fit(request)
    headers = []
    for number, sent in enumerate(request.images, 1):
        check_time()
        field = f"image {number} of {n}" if n > 1 else "image"
        headers.append(header := _header(request, sent, field))
        limits.check_image(field, header.width, header.height)
        check_size(field, header, critic.spec.image_shape, fit)
    deep = sum(header.bits > 8 for header in headers)
    warnings = [f"{deep} of {n} images have 16 bits; 8 of them were judged"] if deep else []
    return ScoreJob(request.images, headers, labels, fit, warnings)


def fill_scores(reply: pb.ScoreReply, scored: Sequence[Scored], started: float) -> None:
    """Puts the scores into the reply. `started`: when the call started, by time.perf_counter."""
    for each in scored:
        reply.scores.add(score=each.score, percentile=each.percentile)
    reply.largest_batch = max(each.batch_size for each in scored)
    reply.timings.queue_s = max(each.queue_s for each in scored)
    reply.timings.compute_s = max(each.compute_s for each in scored)
    reply.timings.decode_s = max(each.decode_s for each in scored)
    reply.timings.total_s = time.perf_counter() - started


def _fit(request: pb.ScoreRequest) -> Fit | None:
    fit = FITS.get(request.fit)
    if fit not in (Fit.COVER, Fit.FILL) and request.fit != pb.FIT_UNSPECIFIED:
        raise InvalidRequest(f"fit: {request.fit}; must be COVER or FILL (2, 3), or unset")
    return fit


def _header(request: pb.ScoreRequest, sent: bytes, field: str) -> Header:
    if request.raw_width or request.raw_height:
        return raw_header(len(sent), request.raw_width, request.raw_height)
    try:
        return read_header(sent)
    except InvalidRequest as error:
        raise InvalidRequest(f"{field}: {str(error).removeprefix('image: ')}") from None


async def answer_score(
    request: pb.ScoreRequest,
    model: Model,
    limits: Limits,
    metrics: Metrics,
    workers: Workers,
    deadline: float | None,
    hold: Callable[[int], object],
) -> pb.ScoreReply:
    """What the model's critic says of the pictures. `hold`: counts memory until the call has ended, beside what was
    sent, which is counted.

    Raises:
        InvalidRequest: the model has no critic, or see `read_score_request`.
        ServerError: see `score`.
    """
    started = time.perf_counter()
    if model.critic is None:
        raise InvalidRequest(f"model {model.name!r} has no critic: export it with --discriminator")
    is_long = request.ByteSize() > LONG_BYTES or any(takes_long(sent) for sent in request.images)
    reading = (request, model.critic, limits)
    wanted = await workers.run(read_score_request, *reading, is_short=True) if is_long else read_score_request(*reading)
    charge(wanted.n, wanted.pixels)
    hold(wanted.held_bytes)
    reply = pb.ScoreReply(model=model.name, version=str(model.version), warnings=wanted.warnings)
    scored = await score(model.critic, wanted, deadline, workers)
    for each in scored:
        metrics.decoded(model.name, each.decode_s)
    fill_scores(reply, scored, started)
    return reply
