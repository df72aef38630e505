"""Resuming a broken stream of images.

gRPC itself retries a call until its first reply. After that the client resumes: an image depends only on its own seed,
latent or w and its own parameters, so that any server can generate those that are missing.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

import grpc

from ganserve.client.channel import RETRYABLE
from ganserve.client.messages import select_images
from ganserve.client.results import GeneratedImage, read_streamed
from ganserve.v1 import images_pb2 as pb


class Call(Protocol):
    """A running RPC, sync or aio."""

    def cancel(self) -> object:
        """Ends it."""


C = TypeVar("C", bound=Call)


class RemainingImages:
    """The images of a request that have not been received yet."""

    def __init__(self, request: pb.GenerateRequest, places: Sequence[int], timeout_s: float | None) -> None:
        self._request = request  # for the remaining images only
        self._places = places  # of the images of `_request`, in what the caller asked for
        self._received: set[int] = set()
        self._ends_at = None if timeout_s is None else time.monotonic() + timeout_s

    def attempts(self, start: Callable[..., C], resumes: bool) -> Iterator[AbstractContextManager[C]]:
        """Calls of GenerateStream, each in a `with` block of its own, until every image was received.

        An attempt that fails is followed by another only if it received an image, so that their number needs no limit.

        Args:
            start: the stub's method.
            resumes: whether a broken stream is resumed at all.
        """
        while self._places:
            yield self._attempt(start, resumes)

    def receive(self, reply: pb.GenerateStreamReply) -> GeneratedImage:
        """The image of a reply, with its index in the caller's request."""
        self._received.add(reply.index)
        return dataclasses.replace(read_streamed(reply), index=self._places[reply.index])

    @contextmanager
    def _attempt(self, start: Callable[..., C], resumes: bool) -> Iterator[C]:
        timeout_s = None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())
        call = start(self._request, timeout=timeout_s)
        try:
            yield call
            self._places = ()
        except grpc.RpcError as error:
            if not resumes or not self._received or error.code().name not in RETRYABLE:
                raise
            self._drop_received()
        finally:
            call.cancel()

    def _drop_received(self) -> None:
        n = len(self._places)
        left = [index for index in range(n) if index not in self._received]
        self._request = select_images(self._request, left, n)
        self._places = [self._places[index] for index in left]
        self._received = set()
