"""An answer's bytes are what protobuf would write, and are copied once."""

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from server.api.infer_answer import InferAnswer, StreamAnswer, raw_of, varint

ARRAYS: list[NDArray[np.generic]] = [
    np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    np.arange(300, dtype=np.float32).reshape(1, 300),
    np.arange(24, dtype=np.int64).reshape(4, 6)[:, ::2],
    np.array([[True, False]]),
    np.zeros((0, 5), np.float16),
    np.array(7, np.int32),
]


def answer() -> InferAnswer:
    made = InferAnswer()
    made.head.model_name, made.head.id = "model", "1"
    for number, array in enumerate(ARRAYS):
        made.head.outputs.add(name=str(number), datatype="X", shape=array.shape)
        made.raws.append(raw_of(array))
    made.raws.append(b"text")
    return made


def expected() -> pb.ModelInferResponse:
    message = pb.ModelInferResponse(model_name="model", id="1")
    for number, array in enumerate(ARRAYS):
        message.outputs.add(name=str(number), datatype="X", shape=array.shape)
        message.raw_output_contents.append(array.tobytes())
    message.raw_output_contents.append(b"text")
    return message


def test_an_answer_is_the_message() -> None:
    assert pb.ModelInferResponse.FromString(answer().SerializeToString()) == expected()


def test_a_streams_answer_is_the_message() -> None:
    found = pb.ModelStreamInferResponse.FromString(StreamAnswer(answer()).SerializeToString())
    assert found == pb.ModelStreamInferResponse(infer_response=expected())


def test_bytes_lie_where_the_array_has_them() -> None:
    array = np.zeros((2, 3), np.float32)
    raw = raw_of(array)
    array[1, 2] = 1
    assert bytes(raw) == array.tobytes()


@pytest.mark.parametrize("number", [0, 1, 127, 128, 16383, 16384, 1 << 31, (1 << 40) + 5])
def test_lengths_are_written_as_protobuf_writes_them(number: int) -> None:
    assert pb.ModelStatistics.FromString(b"\x18" + varint(number)).last_inference == number
