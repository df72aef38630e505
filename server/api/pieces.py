"""An upscaled image as a stream: how far it is, then or meanwhile its bytes, in the end the reply."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from ganserve.v1 import images_pb2 as pb
from server.images.transform import Watch

# A message has at most so many of the image's bytes; gRPC's clients take 4 MiB unless they are told otherwise.
PIECE_BYTES = 1 << 20
# Progress is told no more often.
INTERVAL_S = 0.1
# Messages that may wait for the caller: then the work waits, too.
_WAITING = 4


class Pieces:
    """What is to be sent. The work puts it in and waits while the caller does not take it."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[pb.UpscaleStreamReply] = asyncio.Queue(_WAITING)
        self.tiles = 0
        self._told_at = 0.0

    def of(self, tiles: int) -> Watch:
        """What an image of so many tiles is watched with."""
        self.tiles = tiles
        return self._put

    async def _put(self, done: int, data: bytes) -> None:
        if data or time.monotonic() - self._told_at > INTERVAL_S:
            self._told_at = time.monotonic()
            for piece in self.cut(done, data):
                await self.waiting.put(piece)

    def cut(self, done: int, data: bytes) -> list[pb.UpscaleStreamReply]:
        """The messages for some bytes of the image; one if there are none."""
        return [
            pb.UpscaleStreamReply(tiles_done=done, tiles=self.tiles, data=data[start : start + PIECE_BYTES])
            for start in range(0, max(1, len(data)), PIECE_BYTES)
        ]


async def in_pieces(
    work: Callable[[pb.UpscaleReply, Pieces], Awaitable[None]],
) -> AsyncGenerator[pb.UpscaleStreamReply, None]:
    """The stream of `work`, which fills in the reply. Closing it ends the work.

    Raises:
        Exception: what `work` raises.
    """
    reply, pieces = pb.UpscaleReply(), Pieces()
    task = asyncio.ensure_future(work(reply, pieces))
    try:
        while True:
            getting = asyncio.ensure_future(pieces.waiting.get())
            try:
                await asyncio.wait((task, getting), return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    break
                yield getting.result()
            finally:
                getting.cancel()
        await task
        for piece in pieces.cut(reply.tiles, reply.image.data) if reply.image.data else []:
            yield piece
        reply.image.ClearField("data")
        yield pb.UpscaleStreamReply(tiles_done=reply.tiles, tiles=reply.tiles, result=reply)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
