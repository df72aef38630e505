"""The replies of the addresses for images: one image as it is, or JSON with images in base64."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from starlette.requests import Request

from ganserve.v1 import images_pb2 as pb
from server.api.rest.call import BINARY, JSON, HttpContext, Reply, to_json
from server.api.rest.endpoint import LARGE_BYTES
from server.api.rest.fields import read_choice, read_integer, set_field
from server.errors import InvalidRequest
from server.images.workers import Workers

FORMATS = {
    "png": pb.IMAGE_FORMAT_PNG,
    "jpeg": pb.IMAGE_FORMAT_JPEG,
    "jpg": pb.IMAGE_FORMAT_JPEG,
    "webp": pb.IMAGE_FORMAT_WEBP,
    "raw": pb.IMAGE_FORMAT_RAW,
}
MEDIA_TYPES = {
    pb.IMAGE_FORMAT_PNG: "image/png",
    pb.IMAGE_FORMAT_JPEG: "image/jpeg",
    pb.IMAGE_FORMAT_WEBP: "image/webp",
    pb.IMAGE_FORMAT_RAW: BINARY,
}


class Wanted:
    """The form of the reply that a request wants: one image as it is, or JSON with images in base64.

    Raises:
        InvalidRequest: it accepts nothing that is offered.
    """

    def __init__(self, request: Request, images_only: bool = False, also: Sequence[str] = ()) -> None:
        """`images_only`: JSON is not offered. `also`: further types that are."""
        self._others = (*(() if images_only else (JSON,)), *also)
        self._accepted = accepted_types(request.headers.get("accept", ""))
        self._format: int | None = None

    @property
    def preferred(self) -> str:
        """What is wanted most."""
        return self._accepted[0]

    def write(self, encoding: pb.Encoding, fields: Mapping[str, Any]) -> None:
        """Fills in the encoding: the field `format`, else what Accept names first, else PNG.

        Raises:
            InvalidRequest: an unknown format, a quality that is not a number, or a format that Accept excludes.
        """
        offered = {media_type: format for format, media_type in MEDIA_TYPES.items() if media_type != BINARY}
        named = next((offered[each] for each in self._accepted if each in offered), pb.IMAGE_FORMAT_PNG)
        encoding.format = read_choice(fields, "format", FORMATS, None) or named  # type: ignore[assignment]
        media_type = MEDIA_TYPES[encoding.format]
        if not any(_fits(each, media_type) or each in self._others for each in self._accepted):
            offered_types = " or ".join((media_type, *self._others))
            raise InvalidRequest(f"the reply is {offered_types}, Accept has {', '.join(self._accepted)}")
        for field in ("quality", "bits"):
            if field in fields:
                set_field(encoding, field, read_integer(field, fields[field]))

    async def reply(self, answer: Any, images: Any, context: HttpContext, workers: Workers) -> Reply:
        """One image as itself, unless JSON is preferred; several as JSON.

        Raises:
            InvalidRequest: several images, and JSON is not accepted.
        """
        image = images[0]
        media_type = MEDIA_TYPES[image.format]
        as_image = next((each for each in self._accepted if each == JSON or _fits(each, media_type)), JSON) != JSON
        if as_image and len(images) == 1 and not image.w:
            return Reply([image.data], media_type, context, headers_of(answer, image))
        if not any(_fits(each, JSON) for each in self._accepted):
            what = "an image with its w is" if len(images) == 1 else f"{len(images)} images are"
            raise InvalidRequest(f"{what} sent as {JSON}, Accept has {', '.join(self._accepted)}")
        is_large = sum(len(each.data) for each in images) > LARGE_BYTES
        return Reply([await workers.run_if(is_large, _write_json, answer, images)], JSON, context)


def accepted_types(header: str) -> list[str]:
    """The media types of an Accept header, the preferred ones first; `*/*` if it is empty."""
    found = []
    for order, part in enumerate(header.lower().split(",")):
        media_type, *parameters = (text.strip() for text in part.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            share = float(quality)
        except ValueError:
            share = 1.0
        if media_type and share > 0:
            found.append((-share, order, media_type))
    return [media_type for _, _, media_type in sorted(found)] or ["*/*"]


def _fits(accepted: str, media_type: str) -> bool:
    return accepted in (media_type, "*/*", f"{media_type.partition('/')[0]}/*")


def headers_of(answer: Any, image: pb.Image) -> dict[str, str]:
    """What the reply with one image says of it."""
    headers = {
        "Ganserve-Model": answer.model,
        "Ganserve-Version": answer.version,
        "Ganserve-Width": str(image.width),
        "Ganserve-Height": str(image.height),
        "Ganserve-Channels": str(image.channels),
        "Ganserve-Bits": str(image.bits),
    }
    if warnings := getattr(answer, "warnings", None):
        headers["Ganserve-Warning"] = "; ".join(warnings)
    for field in ("seed", "label", "noise_seed"):
        if image.HasField(field):
            headers[f"Ganserve-{field.replace('_', '-').title()}"] = str(getattr(image, field))
    if image.HasField("choice"):
        choice = image.choice
        headers |= {"Ganserve-Score": f"{choice.score:.6g}", "Ganserve-Percentile": f"{choice.percentile:.2f}"}
        headers |= {"Ganserve-Candidates": str(choice.candidates), "Ganserve-Accepted": str(choice.accepted).lower()}
    batch = getattr(answer, "largest_batch", 0) or getattr(answer, "batch_size", 0)
    headers["Ganserve-Batch"] = str(batch)
    phases = (
        (name, getattr(answer.timings, f"{name}_s")) for name in ("queue", "compute", "decode", "encode", "total")
    )
    headers["Server-Timing"] = ", ".join(f"{name};dur={1000 * seconds:.3f}" for name, seconds in phases)
    if steps := getattr(answer, "then", None):
        headers["Ganserve-Then"] = ", ".join(f"{step.model}/{step.version}" for step in steps)
    # A header is latin-1; names of models are folders, which may be anything.
    return {key: value.encode("latin-1", "replace").decode("latin-1") for key, value in headers.items()}


def _write_json(answer: Any, images: Any) -> bytes:
    found = [shown(each) for each in images]
    body = {"model": answer.model, "version": answer.version, "images": found, "timings": to_json(answer.timings)}
    if warnings := getattr(answer, "warnings", None):
        body["warnings"] = list(warnings)
    if steps := getattr(answer, "then", None):
        body["then"] = [to_json(step) for step in steps]
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def shown(image: pb.Image) -> dict[str, Any]:
    """An image in JSON."""
    format = next(name for name, value in FORMATS.items() if value == image.format)
    found = {"data": b64encode(image.data).decode(), "format": format, "width": image.width, "height": image.height}
    found |= {"channels": image.channels, "bits": image.bits}
    if image.w:
        found["w"] = np.frombuffer(image.w, "<f4").reshape(image.w_layers, -1)
    if image.HasField("choice"):
        found["choice"] = to_json(image.choice)
    return found | {field: getattr(image, field) for field in ("seed", "label", "noise_seed") if image.HasField(field)}
