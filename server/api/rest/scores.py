"""Scores over HTTP: an image in, or several, and what the model's critic says of each out."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ganserve.v1 import images_pb2 as pb
from server.api.rest.call import JSON, HttpContext, Reply, to_json
from server.api.rest.endpoint import Endpoint
from server.api.rest.fields import check_fields, read_base64, read_choice, read_labels, read_text
from server.api.rest.images import read_image_fields
from server.errors import InvalidRequest

FITS = {"cover": pb.FIT_COVER, "fill": pb.FIT_FILL}
_FIELDS = ("image", "images", "label", "labels", "fit", "version")


class ScoreApi:
    """The address that scores images."""

    def __init__(self, endpoint: Endpoint, methods: Any) -> None:
        """`methods`: of the gRPC service `ganserve.v1.ImageService`, as `Calls` wraps them."""
        self._endpoint = endpoint
        self._methods = methods

    def routes(self) -> list[Route]:
        """One."""
        return [Route("/v1/models/{model}:score", self._score, methods=["POST"])]

    async def _score(self, request: Request) -> Response:
        def read(body: bytes) -> Any:
            fields = read_image_fields(self._endpoint, request, body)
            check_fields(fields, _FIELDS)
            message = pb.ScoreRequest(model=request.path_params["model"], version=read_text(fields, "version"))
            if ("image" in fields) == ("images" in fields):
                raise InvalidRequest("image, images: give one of them; one may be the body or a form's file")
            if "image" in fields:
                message.images.append(fields["image"])
            elif isinstance(fields["images"], list):
                message.images.extend(read_base64("images", each) for each in fields["images"])
            else:
                raise InvalidRequest("images: must be an array of strings in base64")
            if isinstance(fields.get("labels"), str):  # of an address or a form
                fields["labels"] = [part.strip() for part in fields["labels"].split(",")]
            read_labels(message.labels, fields)
            message.fit = read_choice(fields, "fit", FITS, None)  # type: ignore[assignment]
            return message

        async def write(answer: Any, context: HttpContext) -> Response:
            return Reply([orjson.dumps(to_json(answer))], JSON, context)

        return await self._endpoint.answer(request, self._methods.Score, self._endpoint.reading(read), write)
