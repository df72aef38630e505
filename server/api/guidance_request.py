"""What a TranslateRequest says beside the image: read before any work, and completed when the call has its memory."""

from dataclasses import replace

from artifact.spec import REFERENCE, Spec
from ganserve.v1 import images_pb2 as pb
from server.api.limits import Limits
from server.errors import in_step
from server.images.guidance import STYLE_SEED, Guidance, read_reference
from server.images.header import header_of
from server.images.sizes import TransformPlan, in_one_pass
from server.images.workers import Workers


async def read_guidance(request: pb.TranslateRequest, limits: Limits, workers: Workers) -> Guidance:
    """Labels, seed, and the header of the reference.

    Raises:
        InvalidRequest: the reference is no image.
        ImageTooLarge: it has more pixels than an image may have.
    """
    reference = None
    if request.HasField("reference"):
        with in_step("reference"):
            reference = await header_of(request.reference, workers)
        limits.check_image("reference", reference.width, reference.height)
    return Guidance(request.labels, request.seed if request.HasField("seed") else None, reference)


async def complete_guidance(
    request: pb.TranslateRequest, guidance: Guidance, reply: pb.TranslateReply, workers: Workers, spec: Spec,
    plan: TransformPlan,
) -> TransformPlan:  # fmt: skip
    """The plan with the reference read; the reply says of which seed and domain the style is."""
    (one,) = plan.passes
    others = dict(one.others)
    if guidance.reference is not None:
        with in_step("reference"):
            others[REFERENCE] = await workers.run(read_reference, request.reference, guidance.reference, spec)
    elif "latent" in others:
        reply.image.seed = STYLE_SEED if guidance.seed is None else guidance.seed
    if "label" in others:
        reply.image.label = int(others["label"][0])
    return in_one_pass(replace(one, others=others))
