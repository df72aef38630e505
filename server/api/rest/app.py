"""The HTTP API: all addresses as one application."""

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.api.rest.call import JSON
from server.api.rest.openapi import document


def make_rest_app(routes: list[Route], version: str) -> Starlette:
    """The application. `routes`: of the two protocols; `version`: ours."""
    text = orjson.dumps(document(version))

    async def openapi(request: Request) -> Response:
        return Response(text, 200, {"Cache-Control": "no-store"}, JSON)

    async def not_found(request: Request, error: Exception) -> Response:
        """No such address, or not with this method."""
        status = error.status_code if isinstance(error, HTTPException) else 404
        what = f"{request.method} {request.url.path[:200]}"
        reason = "is not offered by this address" if status == 405 else "is no address of this server"
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        body = orjson.dumps({"error": f"{what}: {reason}; GET /openapi.json has all"})
        return Response(body, status, {**headers, "Cache-Control": "no-store"}, JSON)

    app = Starlette(
        routes=[*routes, Route("/openapi.json", openapi)], exception_handlers={404: not_found, 405: not_found}
    )
    app.router.redirect_slashes = False
    return app
