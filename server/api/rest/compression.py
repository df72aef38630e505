"""Replies compressed for callers who ask for it. Images are not: they are compressed as they are."""

import zlib
from collections.abc import Mapping, Sequence

from starlette.requests import Request

from server.api.infer_answer import Raw
from server.api.rest.call import HttpContext, Reply
from server.images.workers import Workers, check_time

# Shorter replies gain nothing.
_WORTH_BYTES = 1 << 10
_PIECE_BYTES = 1 << 20
# Fast; a higher one takes several times as long for a few percent.
_LEVEL = 1


async def compressed(
    parts: Sequence[Raw],
    media_type: str,
    headers: Mapping[str, str],
    request: Request,
    context: HttpContext,
    workers: Workers,
) -> Reply:
    """The reply, in gzip or deflate if the request's Accept-Encoding has one of them."""
    wanted = accepted_encoding(request.headers.get("accept-encoding", ""))
    if not wanted or sum(map(len, parts)) < _WORTH_BYTES:
        return Reply(parts, media_type, context, headers)
    packed = await workers.run(_compress, parts, wanted)
    return Reply([packed], media_type, context, {**headers, "Content-Encoding": wanted, "Vary": "Accept-Encoding"})


def accepted_encoding(header: str) -> str:
    """gzip or deflate, the first that the header names and does not exclude; empty if there is neither."""
    for part in header.lower().split(","):
        name, *parameters = (text.strip() for text in part.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        if name in ("gzip", "deflate") and quality.strip("0.") != "":
            return name
    return ""


def _compress(parts: Sequence[Raw], encoding: str) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16 if encoding == "gzip" else zlib.MAX_WBITS)
    packed = bytearray()
    for part in parts:
        for at in range(0, len(part), _PIECE_BYTES):
            check_time()
            packed += packer.compress(part[at : at + _PIECE_BYTES])
    return bytes(packed + packer.flush())
