"""`GET /v1/models/NAME/image?seed=7`: an image at an address, for pages, browsers and the caches between.

HTTP's rules are those of RFC 9110 and 9111.
"""

import re
import reprlib
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ganserve.v1 import images_pb2 as pb
from server.api.image_url import PIN_DIGITS, ImageAt, ImageUrl
from server.api.rest.call import HttpContext, Reply
from server.api.rest.changes import SELECTION_FIELDS, read_changes, read_selection
from server.api.rest.endpoint import Endpoint
from server.api.rest.fields import check_fields, read_integer, read_number, read_text
from server.api.rest.image_reply import MEDIA_TYPES, Wanted, headers_of
from server.api.rest.images import read_then, read_what
from server.errors import InvalidRequest

FIELDS = (
    "seed", "label", "psi", "center", "noise_seed", "toward", "edit", "mix", "translate", "rotate", "then", "size",
    *SELECTION_FIELDS, "format", "quality", "version",
)  # fmt: skip
# They may be there several times.
MANY = ("edit", "mix")
# Translate has two.
NUMBERS = ("seed", "noise_seed", "psi", "translate", "rotate")
# An address is longer than any of ours.
MAX_QUERY_CHARS = 2048
FOREVER_S = 365 * 24 * 3600
_EDIT = re.compile(r"([^:@]+):([^@]+)(?:@(.+))?")
_PIN = re.compile(rf"(.+)@([0-9a-f]{{{PIN_DIGITS},64}})")


class ImageUrls:
    """The addresses of images."""

    def __init__(self, endpoint: Endpoint, methods: Any) -> None:
        """`methods`: GetImage, as `Calls` wraps it."""
        self._endpoint = endpoint
        self._methods = methods

    def routes(self) -> list[Route]:
        """One, for GET and HEAD."""
        return [Route("/v1/models/{model}/image", self._image, methods=["GET"])]

    async def _image(self, request: Request) -> Response:
        wanted = Wanted(request, images_only=True)
        is_negotiated = "format" not in request.query_params

        async def read(body: bytes, context: HttpContext) -> ImageUrl:
            fields = read_query(request.url.query)
            name, pin = split_name(request.path_params["model"])
            message = pb.GenerateRequest(model=name, version=read_text(fields, "version"))
            read_what(message, fields)
            read_changes(message, fields)
            read_selection(message, fields)
            read_then(message.then, fields)
            if "seed" not in fields:
                message.count = 1
            wanted.write(message.encoding, fields)
            known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
            return ImageUrl(message, pin, [tag for tag in known if tag], request.method == "HEAD")

        async def write(answer: ImageAt, context: HttpContext) -> Response:
            headers = {}
            if answer.tag:
                _, pin = split_name(request.path_params["model"])
                lasts = f"max-age={FOREVER_S}, immutable" if pin else "no-cache"
                headers = {"ETag": answer.tag, "Cache-Control": f"{answer.scope}, {lasts}"}
                headers["Content-Location"] = pinned_address(request, answer.pin)
            if is_negotiated:
                headers["Vary"] = "Accept"
            if answer.reply is not None:
                image = answer.reply.images[0]
                told = headers_of(answer.reply, image)
                if answer.kept:  # the phases are those of another request
                    del told["Server-Timing"], told["Ganserve-Batch"]
                if answer.tag:
                    headers["Cache-Status"] = f"ganserve; {'hit' if answer.kept else 'fwd=miss'}"
                headers |= told
                return Reply([image.data], MEDIA_TYPES[image.format], context, headers)
            reply = Reply([], "image/*", context, headers)
            for name in ("content-type", "content-length"):  # of what is not sent
                del reply.headers[name]
            reply.status_code = 304 if answer.has else 200
            return reply

        return await self._endpoint.answer(request, self._methods.GetImage, read, write)


def read_query(query: str) -> dict[str, Any]:
    """The fields of an address, each once.

    Raises:
        InvalidRequest: unknown or empty ones, any but MANY repeated, or too many characters.
    """
    if len(query) > MAX_QUERY_CHARS:
        raise InvalidRequest(f"the address has {len(query)} characters after the ?, at most {MAX_QUERY_CHARS}")
    pairs = parse_qsl(query, keep_blank_values=True)
    fields: dict[str, Any] = dict(pairs)
    check_fields(fields, FIELDS)
    for name, value in pairs:
        if not value:
            raise InvalidRequest(f"{name}: has no value")
    given = Counter(name for name, _ in pairs if name not in MANY)
    if more := {name: count for name, count in given.items() if count > 1}:
        name, count = more.popitem()
        raise InvalidRequest(f"{name}: given {count} times; once in an address")
    if "edit" in fields:
        fields["edits"] = [_edit(value) for name, value in pairs if name == "edit"]
        del fields["edit"]
    if "mix" in fields:
        fields["mixes"] = [_mix(value) for name, value in pairs if name == "mix"]
        del fields["mix"]
    if "seed" in fields:
        fields["seed"] = read_integer("seed", fields["seed"])
    if "noise_seed" in fields:
        fields["noise_seed"] = read_integer("noise_seed", fields["noise_seed"])
    if "psi" in fields:
        fields["truncation"] = read_number("psi", fields.pop("psi"))
    if "toward" in fields:
        fields["towards"] = _toward(fields.pop("toward"))
    if "center" in fields:
        fields["truncation_center"] = fields.pop("center")
    if "translate" in fields:
        fields["translate"] = [read_number("translate", part) for part in fields["translate"].split(",")]
    if "rotate" in fields:
        fields["rotate"] = read_number("rotate", fields["rotate"])
    if "then" in fields:
        fields["then"] = fields["then"].split(",")
    return fields


def _edit(text: str) -> dict[str, Any]:
    found = _EDIT.fullmatch(text)
    if found is None:
        raise InvalidRequest(f"edit: {reprlib.repr(text)} is not DIRECTION:STRENGTH or DIRECTION:STRENGTH@LAYERS")
    return {"direction": found[1], "strength": read_number("edit", found[2]), "layers": found[3] or ""}


def _toward(text: str) -> dict[str, Any]:
    seed, colon, share = text.partition(":")
    if not colon:
        raise InvalidRequest(f"toward: {reprlib.repr(text)} is not SEED:SHARE, such as 8:0.25")
    return {"seed": read_integer("toward", seed), "share": read_number("toward", share)}


def _mix(text: str) -> dict[str, Any]:
    seed, at, layers = text.partition("@")
    if not at:
        raise InvalidRequest(f"mix: {reprlib.repr(text)} is not SEED@LAYERS")
    return {"seed": read_integer("mix", seed), "layers": layers}


def split_name(name: str) -> tuple[str, str]:
    """NAME@DIGITS of an address as the model's name and the digits; "" without them."""
    found = _PIN.fullmatch(name)
    return (found[1], found[2]) if found else (name, "")


def _written(name: str, value: str) -> str:
    """A field's value, which was read before: .70 as 0.7."""
    if name in NUMBERS:
        return ",".join(_number(part) for part in value.split(","))
    if name == "edit" and (found := _EDIT.fullmatch(value)):
        return f"{found[1]}:{_number(found[2])}" + (f"@{found[3]}" if found[3] else "")
    return value


def _number(text: str) -> str:
    return repr(float(text)).removesuffix(".0")


def pinned_address(request: Request, pin: str) -> str:
    """The same image's address under which it never changes: fields sorted, each number written in one way."""
    name, _ = split_name(request.path_params["model"])
    pairs = sorted((name, _written(name, value)) for name, value in parse_qsl(request.url.query))
    path = request.url.path.rpartition("/v1/models/")[0] + f"/v1/models/{quote(name, safe='')}@{pin}/image"
    return f"{path}?{urlencode(pairs)}" if pairs else path
