"""grpcurl, which knows nothing of the services but what reflection says."""

import base64
import json
from typing import Any

import numpy as np
import pytest

from tests.clients.conftest import output_of, program
from tests.serving import ServerProcess

SERVICES = ["ganserve.v1.ImageService", "grpc.health.v1.Health", "inference.GRPCInferenceService"]


def call(server: ServerProcess, *arguments: str, message: Any = None) -> str:
    data = () if message is None else ("-d", json.dumps(message))
    return output_of(program("grpcurl"), "-plaintext", *data, server.address, *arguments)


def test_it_lists_the_services(server: ServerProcess) -> None:
    found = call(server, "list").split()
    assert set(SERVICES) < set(found)
    assert "rpc ModelInfer ( .inference.ModelInferRequest )" in call(server, "describe", SERVICES[2])


def test_it_calls_them(server: ServerProcess) -> None:
    assert json.loads(call(server, "grpc.health.v1.Health/Check")) == {"status": "SERVING"}
    latent = base64.b64encode(np.ones((1, 4), np.float32).tobytes()).decode()
    tensor = {"name": "latent", "datatype": "FP32", "shape": [1, 4]}
    message = {"model_name": "tiny", "inputs": [tensor], "raw_input_contents": [latent]}
    answer = json.loads(call(server, f"{SERVICES[2]}/ModelInfer", message=message))
    image = np.frombuffer(base64.b64decode(answer["raw_output_contents"][0]), np.uint8)
    np.testing.assert_array_equal(image, np.arange(48).reshape(4, 12).sum(0))
    streamed = json.loads(call(server, f"{SERVICES[2]}/ModelStreamInfer", message=message))
    assert streamed["infer_response"]["raw_output_contents"] == answer["raw_output_contents"]


@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
def test_it_generates_images(server: ServerProcess, method: str) -> None:
    message = {"model": "styled", "seeds": {"values": [7]}, "labels": ["two"]}
    answer = json.loads(call(server, f"{SERVICES[0]}/{method}", message=message))
    image = answer["images"][0] if method == "Generate" else answer["image"]
    assert base64.b64decode(image["data"]).startswith(b"\x89PNG")
