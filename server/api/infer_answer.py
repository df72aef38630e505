"""Answers of ModelInfer, whose tensors are copied once on their way: from the engine's memory into the message."""

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from server.images.memory import Hold

Raw: TypeAlias = bytes | memoryview

_RAW_KEY, _ANSWER_KEY = (
    bytes([kind.fields_by_name[field].number << 3 | 2])  # 2: bytes, their length before them
    for kind, field in (
        (service_pb2.ModelInferResponse.DESCRIPTOR, "raw_output_contents"),
        (service_pb2.ModelStreamInferResponse.DESCRIPTOR, "infer_response"),
    )
)


class InferAnswer:
    """A ModelInferResponse: `head` is all of it but raw_output_contents, which are `raws`.

    In a message of protobuf each would be copied in, and copied again when the message is serialized.
    """

    __slots__ = ("head", "raws")

    def __init__(self) -> None:
        self.head = service_pb2.ModelInferResponse()
        self.raws: list[Raw] = []

    def SerializeToString(self) -> bytes:  # as messages have it
        """The message's bytes, in protobuf's encoding."""
        return b"".join(self.parts())

    def ByteSize(self) -> int:  # likewise
        """How many that are, but for the lengths before the tensors."""
        return int(self.head.ByteSize()) + sum(map(len, self.raws))

    def parts(self) -> list[Raw]:
        """The same, not yet copied together."""
        parts: list[Raw] = [self.head.SerializeToString()]
        for raw in self.raws:
            parts += (_RAW_KEY, varint(len(raw)), raw)
        return parts


class StreamAnswer:
    """A ModelStreamInferResponse of one answer."""

    __slots__ = ("answer",)

    def __init__(self, answer: InferAnswer) -> None:
        self.answer = answer

    def SerializeToString(self) -> bytes:
        """The message's bytes, in protobuf's encoding."""
        parts = self.answer.parts()
        return b"".join((_ANSWER_KEY, varint(sum(map(len, parts))), *parts))


def raw_of(array: NDArray[np.generic]) -> memoryview:
    """The array's bytes, row-major; where they lie, unless there are gaps between them."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


@lru_cache  # of the sizes of a model's outputs
def varint(number: int) -> bytes:
    """A number as protobuf writes it: seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


@dataclass(frozen=True)
class PendingAnswer:
    """An answer of a stream that is being made or waits to be sent, and the memory that it holds."""

    task: asyncio.Task[Any]
    hold: Hold

    def drop(self) -> None:
        """It was sent, or will not be."""
        self.task.cancel()
        self.hold.release()
