"""Every RPC of Triton's service answers on both front ends, plain and in gzip, and over HTTP (docs/triton.md)."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from docs.triton_page import RPCS
from server.api.kserve import METHODS
from tests.serving import ServerProcess

TENSOR = {"name": "latent", "datatype": "FP32", "shape": [1, 4]}
INFER = pb.ModelInferRequest(model_name="tiny", inputs=[TENSOR], raw_input_contents=[bytes(16)])
LEVELS = {"log_info": pb.LogSettingsRequest.SettingValue(bool_param=True)}

# A request of each RPC, in an order in which each can be answered, and what shows that it was.
REQUESTS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "ServerLive": (pb.ServerLiveRequest(), lambda answer: answer.live),
    "ServerReady": (pb.ServerReadyRequest(), lambda answer: answer.ready),
    "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest(model_name="tiny"), lambda answer: True),
    "RepositoryModelLoad": (pb.RepositoryModelLoadRequest(model_name="tiny"), lambda answer: True),
    "ModelReady": (pb.ModelReadyRequest(name="tiny"), lambda answer: answer.ready),
    "ServerMetadata": (pb.ServerMetadataRequest(), lambda answer: answer.name == "ganserve"),
    "ModelMetadata": (pb.ModelMetadataRequest(name="tiny"), lambda answer: answer.inputs[0].name == "latent"),
    "ModelInfer": (INFER, lambda answer: len(answer.raw_output_contents[0]) == 12),
    "ModelStreamInfer": (INFER, lambda answer: len(answer.infer_response.raw_output_contents[0]) == 12),
    "ModelConfig": (pb.ModelConfigRequest(name="tiny"), lambda answer: answer.config.name == "tiny"),
    "ModelStatistics": (pb.ModelStatisticsRequest(name="tiny"), lambda answer: answer.model_stats[0].inference_count),
    "RepositoryIndex": (pb.RepositoryIndexRequest(), lambda answer: {"tiny"} < {each.name for each in answer.models}),
    "SystemSharedMemoryRegister": (
        pb.SystemSharedMemoryRegisterRequest(name="mine", byte_size=16), lambda answer: True,
    ),
    "SystemSharedMemoryStatus": (
        pb.SystemSharedMemoryStatusRequest(name="mine"), lambda answer: answer.regions["mine"].byte_size == 16,
    ),
    "SystemSharedMemoryUnregister": (pb.SystemSharedMemoryUnregisterRequest(name="mine"), lambda answer: True),
    "CudaSharedMemoryRegister": (
        pb.CudaSharedMemoryRegisterRequest(name="mine", raw_handle=bytes(64), byte_size=16), lambda answer: False,
    ),
    "CudaSharedMemoryStatus": (pb.CudaSharedMemoryStatusRequest(), lambda answer: not answer.regions),
    "CudaSharedMemoryUnregister": (pb.CudaSharedMemoryUnregisterRequest(), lambda answer: True),
    "TraceSetting": (pb.TraceSettingRequest(), lambda answer: answer.settings["trace_level"].value == ["OFF"]),
    "LogSettings": (pb.LogSettingsRequest(settings=LEVELS), lambda answer: answer.settings["log_info"].bool_param),
}  # fmt: skip


@pytest.fixture
def segment() -> Iterator[str]:
    memory = SharedMemory(create=True, size=16)
    yield memory.name
    memory.close()
    memory.unlink()


def test_the_table_and_these_tests_have_every_rpc() -> None:
    assert set(REQUESTS) == set(RPCS) == set(METHODS)
    assert len(METHODS) == 20


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_every_rpc_answers(server: ServerProcess, segment: str, compression: grpc.Compression) -> None:
    answered = []
    with grpc.insecure_channel(server.address, compression=compression) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for name, (request, shows) in REQUESTS.items():
            if name == "SystemSharedMemoryRegister":
                request.key = segment
            sent = iter([request]) if name == "ModelStreamInfer" else request
            try:
                answer = getattr(stub, name)(sent, timeout=30)
                assert shows(next(answer) if name == "ModelStreamInfer" else answer), name
            except grpc.RpcError as error:
                refused(name, str(error))
            answered.append(name)
    assert len(answered) == 20


def refused(name: str, text: str) -> None:
    """The one RPC that needs what CI's machine does not have."""
    assert name == "CudaSharedMemoryRegister", text
    assert "CUDA shared memory needs an NVIDIA GPU" in text


def test_every_rpc_answers_over_http(server: ServerProcess, segment: str) -> None:
    url = f"http://127.0.0.1:{server.ready['rest_port']}"
    bodies = {
        "ModelInfer": {"inputs": [{**TENSOR, "data": [0.0] * 4}]},
        "SystemSharedMemoryRegister": {"key": segment, "byte_size": 16},
        "CudaSharedMemoryRegister": {"raw_handle": {"b64": "A" * 84 + "AA=="}, "byte_size": 16},
        "LogSettings": {"log_info": True},
    }
    answered = []
    for name in REQUESTS:
        verb, _, path = RPCS[name].partition(" ")
        if not path:  # as in Triton, a stream of tensors
            continue
        address = url + path.replace("NAME", "mine" if "SharedMemory" in name else "tiny")
        body = json.dumps(bodies.get(name, {})).encode() if verb == "POST" else None
        try:
            with urllib.request.urlopen(urllib.request.Request(address, body, method=verb), timeout=30) as reply:
                assert reply.status == 200
        except urllib.error.HTTPError as error:
            with error:
                refused(name, error.read().decode())
        answered.append(name)
    assert len(answered) == 19
