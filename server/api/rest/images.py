"""Images over HTTP for people and programs: seeds in and an image out, an image in and an image out."""

import reprlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ganserve.v1 import images_pb2 as pb
from server.api.rest.call import BINARY, JSON, HttpContext, Reply, read_json, to_json
from server.api.rest.changes import read_changes
from server.api.rest.endpoint import LARGE_BYTES, Endpoint
from server.api.rest.fields import (
    check_fields,
    extend,
    one_or_many,
    read_base64,
    read_choice,
    read_floats,
    read_integer,
    read_json_number,
    read_labels,
    read_number,
    read_text,
    set_field,
)  # fmt: skip
from server.api.rest.form import MULTIPART, read_form
from server.errors import InvalidRequest, Unsupported
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
ALPHA = {"keep": pb.ALPHA_POLICY_KEEP, "drop": pb.ALPHA_POLICY_DROP}
_GENERATE_FIELDS = (
    "seed", "seeds", "count", "first_seed", "label", "labels", "truncation", "truncations", "noise_seed", "noise_seeds",
    "latents", "ws", "edits", "mixes", "layer_truncations", "truncation_cutoff", "return_w", "then", "format",
    "quality", "version",
)  # fmt: skip
_LABEL_FIELDS = ("label", "labels")
_IMAGE_FIELDS = ("image", "format", "quality", "bits", "alpha", "version")
_SIZE_FIELDS = ("scale", "width", "height", "fit")
FITS = {"contain": pb.FIT_CONTAIN, "cover": pb.FIT_COVER, "fill": pb.FIT_FILL}


class ImageApi:
    """The addresses below /v1."""

    def __init__(self, endpoint: Endpoint, methods: Any) -> None:
        """`methods`: of the gRPC service `ganserve.v1.ImageService`, as `Calls` wraps them."""
        self._endpoint = endpoint
        self._methods = methods

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/v1/models", self._list, methods=["GET"]),
            Route("/v1/models/{model}", self._list, methods=["GET"]),
            Route("/v1/models/{model}/directions", self._directions, methods=["GET"]),
            Route("/v1/models/{model}:generate", self._generate, methods=["POST"]),
            Route("/v1/models/{model}:upscale", self._transforming("Upscale", pb.UpscaleRequest), methods=["POST"]),
            Route(
                "/v1/models/{model}:translate", self._transforming("Translate", pb.TranslateRequest), methods=["POST"]
            ),
        ]

    async def _list(self, request: Request) -> Response:
        name = request.path_params.get("model")

        async def read(body: bytes, context: HttpContext) -> Any:
            return pb.ListModelsRequest()

        async def write(answer: Any, context: HttpContext) -> Response:
            models = [to_json(model) for model in answer.models if name in (None, model.name)]
            if models or name is None:
                return Reply([orjson.dumps({"models": models})], JSON, context)
            reply = Reply([orjson.dumps({"error": f"no model {name!r} in the repository"})], JSON, context)
            reply.status_code = 404
            return reply

        return await self._endpoint.answer(request, self._methods.ListModels, read, write)

    async def _directions(self, request: Request) -> Response:
        async def read(body: bytes, context: HttpContext) -> Any:
            version = request.query_params.get("version", "")
            return pb.ListDirectionsRequest(model=request.path_params["model"], version=version)

        async def write(answer: Any, context: HttpContext) -> Response:
            return Reply([orjson.dumps(to_json(answer))], JSON, context)

        return await self._endpoint.answer(request, self._methods.ListDirections, read, write)

    async def _generate(self, request: Request) -> Response:
        wanted = Wanted(request)

        def read(body: bytes) -> Any:
            fields = read_json(body, self._endpoint.max_bytes)
            check_fields(fields, _GENERATE_FIELDS)
            message = pb.GenerateRequest(model=request.path_params["model"], version=read_text(fields, "version"))
            read_what(message, fields)
            read_changes(message, fields)
            read_then(message.then, fields)
            wanted.write(message.encoding, fields)
            return message

        async def write(answer: Any, context: HttpContext) -> Response:
            return await wanted.reply(answer, answer.images, context, self._endpoint.workers)

        return await self._endpoint.answer(request, self._methods.Generate, self._endpoint.reading(read), write)

    def _transforming(self, rpc: str, kind: Any) -> Callable[[Request], Any]:
        """Upscale and Translate."""

        async def respond(request: Request) -> Response:
            wanted = Wanted(request)

            def read(body: bytes) -> Any:
                fields = self._image_fields(request, body)
                check_fields(fields, _IMAGE_FIELDS + (_SIZE_FIELDS if kind is pb.UpscaleRequest else _LABEL_FIELDS))
                if not isinstance(fields.get("image"), bytes):
                    raise InvalidRequest("image: is missing; send it as the body, a form's file, or base64 in JSON")
                message = kind(model=request.path_params["model"], version=read_text(fields, "version"))
                message.image = fields["image"]
                message.alpha = read_choice(fields, "alpha", ALPHA, "keep")
                wanted.write(message.encoding, fields)
                if kind is pb.UpscaleRequest:
                    _read_size(message, fields)
                else:
                    if isinstance(fields.get("labels"), str):  # of an address or a form
                        fields["labels"] = [part.strip() for part in fields["labels"].split(",")]
                    read_labels(message.labels, fields)
                return message

            async def write(answer: Any, context: HttpContext) -> Response:
                return await wanted.reply(answer, [answer.image], context, self._endpoint.workers)

            reading = self._endpoint.reading(read)
            return await self._endpoint.answer(request, getattr(self._methods, rpc), reading, write)

        return respond

    def _image_fields(self, request: Request, body: bytes) -> dict[str, Any]:
        """The fields of a request with an image, whichever way it was sent: `image` as bytes, the others as in JSON."""
        media_type = _media_type(request.headers.get("content-type", ""))
        query = _query(request)
        if media_type == JSON:
            fields = read_json(body, self._endpoint.max_bytes)
            if "image" in fields:
                fields["image"] = read_base64("image", fields["image"])
            return {**query, **fields}
        if media_type == MULTIPART:
            return {**query, **read_form(request.headers, body)}
        if not (media_type.startswith("image/") or media_type in ("", BINARY, "application/x-www-form-urlencoded")):
            raise Unsupported(f"Content-Type {media_type!r} is not offered; use an image's, {MULTIPART} or {JSON}")
        return {**query, "image": body} if body else query


class Wanted:
    """The form of the reply that a request wants: one image as it is, or JSON with images in base64.

    Raises:
        InvalidRequest: it accepts nothing that is offered.
    """

    def __init__(self, request: Request, images_only: bool = False) -> None:
        """`images_only`: JSON is not offered."""
        self._others = () if images_only else (JSON,)
        self._accepted = accepted_types(request.headers.get("accept", ""))
        self._format: int | None = None

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
    shown = [_shown(each) for each in images]
    body = {"model": answer.model, "version": answer.version, "images": shown, "timings": to_json(answer.timings)}
    if warnings := getattr(answer, "warnings", None):
        body["warnings"] = list(warnings)
    if steps := getattr(answer, "then", None):
        body["then"] = [to_json(step) for step in steps]
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _shown(image: pb.Image) -> dict[str, Any]:
    """An image in JSON."""
    format = next(name for name, value in FORMATS.items() if value == image.format)
    found = {"data": b64encode(image.data).decode(), "format": format, "width": image.width, "height": image.height}
    found |= {"channels": image.channels, "bits": image.bits}
    if image.w:
        found["w"] = np.frombuffer(image.w, "<f4").reshape(image.w_layers, -1)
    return found | {field: getattr(image, field) for field in ("seed", "label", "noise_seed") if image.HasField(field)}


def read_what(message: pb.GenerateRequest, fields: Mapping[str, Any]) -> None:
    """What to generate, from the fields of the same names; `seed` is `seeds` of one, and so on."""
    if (seeds := one_or_many(fields, "seed", "seeds")) is not None:
        message.seeds.SetInParent()
        extend(message.seeds.values, "seeds", [read_integer("seeds", each) for each in seeds])
    for key, kind in (("latents", message.latents), ("ws", message.ws)):
        if key in fields:
            if message.WhichOneof("what"):
                raise InvalidRequest(f"{key}: given with {message.WhichOneof('what')}; set one of them")
            array = read_floats(key, fields[key], (2,) if key == "latents" else (2, 3))
            kind.data = array.astype("<f4").tobytes()
            if key == "ws":
                message.ws.per_layer = array.ndim == 3
    if "count" in fields:
        if message.WhichOneof("what"):
            raise InvalidRequest(f"count: given with {message.WhichOneof('what')}; set one of them")
        set_field(message, "count", read_integer("count", fields["count"]))
    if "first_seed" in fields:
        set_field(message, "first_seed", read_integer("first_seed", fields["first_seed"]))
    read_labels(message.labels, fields)
    for value in one_or_many(fields, "truncation", "truncations") or []:
        message.truncations.append(read_json_number("truncations", value))
    noise = one_or_many(fields, "noise_seed", "noise_seeds") or []
    extend(message.noise_seeds, "noise_seeds", [read_integer("noise_seeds", each) for each in noise])


def _read_size(message: pb.UpscaleRequest, fields: Mapping[str, Any]) -> None:
    """The size that the image shall have."""
    for name in {"scale", "width", "height"} & set(fields):
        value: Any = (read_number if name == "scale" else read_integer)(name, fields[name])
        if not value:  # gRPC's word for not given
            raise InvalidRequest(f"{name}: 0; must be above 0, or left out")
        set_field(message, name, value)
    message.fit = read_choice(fields, "fit", FITS, None)  # type: ignore[assignment]


def _query(request: Request) -> dict[str, Any]:
    """The fields of the address.

    Raises:
        InvalidRequest: one is given twice.
    """
    fields: dict[str, Any] = {}
    for key, value in request.query_params.multi_items():
        if key in fields:
            raise InvalidRequest(f"{key[:100]}: given twice")
        fields[key] = value
    return fields


def read_then(steps: Any, fields: Mapping[str, Any]) -> None:
    """The steps after the generator: a model's name, or an array of names and of objects with the fields of a step."""
    given = fields.get("then", [])
    for each in [given] if isinstance(given, str) else given if isinstance(given, list) else [None]:
        step = {"model": each} if isinstance(each, str) else each
        if not isinstance(step, dict):
            raise InvalidRequest(f"then: {reprlib.repr(given)} is neither a model's name nor an array of steps")
        check_fields(step, ("model", "version", *_LABEL_FIELDS))
        added = steps.add(model=read_text(step, "model"), version=read_text(step, "version"))
        read_labels(added.labels, step)


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()
