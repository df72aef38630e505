"""What the server has: models, their directions, their judges."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ganserve.client.address import Address
from ganserve.client.errors import translated
from ganserve.client.results import Direction, JudgeGraph, ServedModel, read_directions, read_judge, read_models
from ganserve.v1 import images_pb2 as pb


class Listings:
    """The calls of a client that compute nothing.

    Attributes:
        _stub: of the image API.
        _address: for errors.
        _deadline_s: of a call that has none of its own.
    """

    _stub: Any
    _address: Address
    _deadline_s: float | None

    def models(self, *, deadline_s: float | None = None) -> list[ServedModel]:
        """Every model in the server's repository, loaded or not."""
        with self._translated(deadline_s) as timeout_s:
            return read_models(self._stub.ListModels(pb.ListModelsRequest(), timeout=timeout_s))

    def directions(self, model: str, *, version: str = "", deadline_s: float | None = None) -> list[Direction]:
        """The directions of a generator that `edits` may name."""
        request = pb.ListDirectionsRequest(model=model, version=version)
        with self._translated(deadline_s) as timeout_s:
            return read_directions(self._stub.ListDirections(request, timeout=timeout_s))

    def judge(self, model: str, *, version: str = "", deadline_s: float | None = None) -> JudgeGraph:
        """The network that says what a generator's images show, as an ONNX graph.

        Raises:
            InvalidRequest: the model has none.
        """
        request = pb.GetJudgeRequest(model=model, version=version)
        with self._translated(deadline_s) as timeout_s:
            return read_judge(self._stub.GetJudge(request, timeout=timeout_s))

    @contextmanager
    def _translated(self, deadline_s: float | None) -> Iterator[float | None]:
        """Gives the call's time in seconds, and turns gRPC's errors into the client's."""
        timeout_s = self._deadline_s if deadline_s is None else deadline_s
        with translated(self._address, timeout_s):
            yield timeout_s
