"""The page at /, on which people try the models: three files, no build, nothing from elsewhere."""

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).with_name("page")
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Scripts and styles are files of ours, images come from this server or from the page itself.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page_routes(grpc_port: int) -> list[Route]:
    """`/` and the files that it uses. `grpc_port`: for the requests that it shows; 0: not known."""
    paths = sorted(path for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES)
    port = str(grpc_port or "PORT").encode()
    return [
        _route(
            "/" if path.name == "index.html" else f"/page/{path.name}",
            path.read_bytes().replace(b"{{grpc_port}}", port),
            MEDIA_TYPES[path.suffix],
        )
        for path in paths
    ]


def _route(address: str, data: bytes, media_type: str) -> Route:
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
        "ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"',
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }

    async def send(request: Request) -> Response:
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(None, 304, headers)
        return Response(data, 200, headers, media_type)

    return Route(address, send)
