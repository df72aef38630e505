"""Going on with a stream of pictures where a server left off.

gRPC itself tries a call again until its first answer. What comes after that is up to us: a picture depends on nothing
but its own seed, latent or w and its own knobs, so that any server can draw those that have not come.
"""

import dataclasses
import time
from collections.abc import Sequence

import grpc

from ganserve.client.channel import RETRYABLE
from ganserve.client.results import GeneratedImage, read_streamed
from ganserve.v1 import images_pb2 as pb


class Rest:
    """What has not come yet of n pictures; `request` asks for it."""

    def __init__(self, request: pb.GenerateRequest, n: int, timeout_s: float | None) -> None:
        self.request = request
        self._places: Sequence[int] = range(n)  # in the caller's request, of the pictures of `request`
        self._came: set[int] = set()
        self._ends_at = None if timeout_s is None else time.monotonic() + timeout_s

    @property
    def timeout_s(self) -> float | None:
        """What is left of the time that the whole may take."""
        return None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

    def take(self, reply: pb.GenerateStreamReply) -> GeneratedImage:
        """The picture of an answer, with its place in the caller's request."""
        self._came.add(reply.index)
        return dataclasses.replace(read_streamed(reply), index=self._places[reply.index])

    def narrow(self, error: grpc.RpcError) -> bool:
        """Whether to go on after this end of the stream: some pictures came, and another server may draw the others.

        Each time makes progress, so that the number of times needs no limit; `request` then asks for the others.
        """
        if not self._came or error.code().name not in RETRYABLE:
            return False
        n = len(self._places)
        left = [index for index in range(n) if index not in self._came]
        self.request = _only(self.request, left, n)
        self._places = [self._places[index] for index in left]
        self._came = set()
        return True

    def __bool__(self) -> bool:
        """Whether there is anything left to ask for."""
        return bool(self._places)


def _only(request: pb.GenerateRequest, indexes: list[int], n: int) -> pb.GenerateRequest:
    """A request for some of the n pictures of another. Seeds that the server was to choose are chosen anew."""
    chosen = pb.GenerateRequest()
    chosen.CopyFrom(request)
    what = request.WhichOneof("what")
    if what == "count" and request.HasField("first_seed"):
        chosen.ClearField("first_seed")
        chosen.seeds.values.extend(request.first_seed + index for index in indexes)
    elif what == "count":
        chosen.count = len(indexes)
    elif what == "seeds":
        chosen.seeds.values[:] = [request.seeds.values[index] for index in indexes]
    elif what == "latents":
        chosen.latents.data = _rows(request.latents.data, indexes, n)
    else:
        chosen.ws.data = _rows(request.ws.data, indexes, n)
    for name in ("labels", "truncations", "noise_seeds"):
        values = getattr(request, name)
        if len(values) > 1:  # one is for all
            getattr(chosen, name)[:] = [values[index] for index in indexes]
    return chosen


def _rows(data: bytes, indexes: list[int], n: int) -> bytes:
    size = len(data) // n
    return b"".join(data[index * size : (index + 1) * size] for index in indexes)
