"""Images over HTTP for people and programs: seeds in and an image out, an image in and an image out."""

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ganserve.v1 import images_pb2 as pb
from server.api.rest.call import BINARY, JSON, HttpContext, Reply, read_json, to_json
from server.api.rest.changes import SELECTION_FIELDS, read_changes, read_selection
from server.api.rest.endpoint import Endpoint
from server.api.rest.events import EVENTS, EventReply, Opened, streaming
from server.api.rest.fields import (
    check_fields,
    check_many,
    extend,
    one_or_many,
    read_base64,
    read_choice,
    read_flag,
    read_floats,
    read_integer,
    read_json_number,
    read_labels,
    read_number,
    read_text,
    set_field,
)  # fmt: skip
from server.api.rest.form import MULTIPART, read_form
from server.api.rest.image_reply import Wanted
from server.errors import InvalidRequest, Unsupported

ALPHA = {"keep": pb.ALPHA_POLICY_KEEP, "drop": pb.ALPHA_POLICY_DROP}
_GENERATE_FIELDS = (
    "seed", "seeds", "count", "first_seed", "label", "labels", "truncation", "truncations", "noise_seed", "noise_seeds",
    "towards",
    "latents", "ws", "edits", "mixes", "layer_truncations", "truncation_cutoff", "truncation_center", "translate",
    "rotate", "size", "return_w", *SELECTION_FIELDS, "then", "format", "quality", "version",
)  # fmt: skip
_LABEL_FIELDS = ("label", "labels")
_STYLE_FIELDS = ("seed", "reference")
_RAW_FIELDS = ("raw_width", "raw_height", "raw_bits")
_IMAGE_FIELDS = ("image", *_RAW_FIELDS, "format", "quality", "bits", "alpha", "metadata", "tta", "version")
_SIZE_FIELDS = ("scale", "width", "height", "fit", "resample")
_RESAMPLES = {"lanczos": pb.RESAMPLE_LANCZOS, "area": pb.RESAMPLE_AREA}
_POLICIES = {
    "icc": pb.METADATA_POLICY_ICC,
    "keep": pb.METADATA_POLICY_KEEP,
    "strip": pb.METADATA_POLICY_STRIP,
}
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
            read_selection(message, fields)
            read_then(message.then, fields)
            wanted.write(message.encoding, fields)
            return message

        async def write(answer: Any, context: HttpContext) -> Response:
            return await wanted.reply(answer, answer.images, context, self._endpoint.workers)

        return await self._endpoint.answer(request, self._methods.Generate, self._endpoint.reading(read), write)

    def _transforming(self, rpc: str, kind: Any) -> Callable[[Request], Any]:
        """Upscale and Translate; Upscale also as a stream of events."""
        streams = kind is pb.UpscaleRequest

        async def respond(request: Request) -> Response:
            wanted = Wanted(request, also=(EVENTS,) if streams else ())

            def read(body: bytes) -> Any:
                fields = read_image_fields(self._endpoint, request, body)
                own = _SIZE_FIELDS if kind is pb.UpscaleRequest else _LABEL_FIELDS + _STYLE_FIELDS
                check_fields(fields, _IMAGE_FIELDS + own)
                if not isinstance(fields.get("image"), bytes):
                    raise InvalidRequest("image: is missing; send it as the body, a form's file, or base64 in JSON")
                message = kind(model=request.path_params["model"], version=read_text(fields, "version"))
                message.image = fields["image"]
                message.alpha = read_choice(fields, "alpha", ALPHA, "keep")
                message.metadata = read_choice(fields, "metadata", _POLICIES, "icc")
                message.tta = read_flag(fields, "tta")
                for field in _RAW_FIELDS:
                    if field in fields:
                        set_field(message, field, read_integer(field, fields[field]))
                wanted.write(message.encoding, fields)
                if kind is pb.UpscaleRequest:
                    _read_size(message, fields)
                else:
                    if isinstance(fields.get("labels"), str):  # of an address or a form
                        fields["labels"] = [part.strip() for part in fields["labels"].split(",")]
                    read_labels(message.labels, fields)
                    _read_style(message, fields)
                return message

            async def write(answer: Any, context: HttpContext) -> Response:
                return await wanted.reply(answer, [answer.image], context, self._endpoint.workers)

            async def write_events(opened: Opened, context: HttpContext) -> Response:
                return EventReply(opened, context)

            reading = self._endpoint.reading(read)
            if streams and wanted.preferred == EVENTS:
                begin = streaming(self._methods.UpscaleStream)
                return await self._endpoint.answer(request, begin, reading, write_events)
            return await self._endpoint.answer(request, getattr(self._methods, rpc), reading, write)

        return respond


def read_image_fields(endpoint: Endpoint, request: Request, body: bytes) -> dict[str, Any]:
    """The fields of a request with an image, whichever way it was sent: `image` as bytes, the others as in JSON."""
    media_type = _media_type(request.headers.get("content-type", ""))
    query = _query(request)
    if media_type == JSON:
        fields = read_json(body, endpoint.max_bytes)
        for name in {"image", "reference"} & fields.keys():
            fields[name] = read_base64(name, fields[name])
        return {**query, **fields}
    if media_type == MULTIPART:
        return {**query, **read_form(request.headers, body)}
    if not (media_type.startswith("image/") or media_type in ("", BINARY, "application/x-www-form-urlencoded")):
        raise Unsupported(f"Content-Type {media_type!r} is not offered; use an image's, {MULTIPART} or {JSON}")
    return {**query, "image": body} if body else query


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
    """The size that the image shall have, and how it gets there."""
    for name in {"scale", "width", "height"} & set(fields):
        value: Any = (read_number if name == "scale" else read_integer)(name, fields[name])
        if not value:  # gRPC's word for not given
            raise InvalidRequest(f"{name}: 0; must be above 0, or left out")
        set_field(message, name, value)
    message.fit = read_choice(fields, "fit", FITS, None)  # type: ignore[assignment]
    message.resample = read_choice(fields, "resample", _RESAMPLES, None)  # type: ignore[assignment]


def _read_style(message: pb.TranslateRequest, fields: Mapping[str, Any]) -> None:
    """The style that the image shall have."""
    if "seed" in fields:
        set_field(message, "seed", read_integer("seed", fields["seed"]))
    if "reference" in fields:
        if not isinstance(fields["reference"], bytes):
            raise InvalidRequest("reference: must be an image, a form's file or base64 in JSON")
        message.reference = fields["reference"]


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
    for each in check_many("then", given if isinstance(given, list) else [given if isinstance(given, str) else None]):
        step = {"model": each} if isinstance(each, str) else each
        if not isinstance(step, dict):
            raise InvalidRequest(f"then: {reprlib.repr(given)} is neither a model's name nor an array of steps")
        check_fields(step, ("model", "version", *_LABEL_FIELDS))
        added = steps.add(model=read_text(step, "model"), version=read_text(step, "version"))
        read_labels(added.labels, step)


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()
