"""What callers can make the server log: bounded in length and in number."""

from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests import serving


def test_refused_calls_with_huge_names_leave_a_short_log_that_says_how_many_there_were(
    repository: Path, frontend: str
) -> None:
    request = service_pb2.ModelInferRequest(model_name="\u202e" * (1 << 18))
    with serving.running(repository, "--frontend", frontend, "--device", "cpu") as process:
        with grpc.insecure_channel(process.address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            calls = [stub.ModelInfer.future(request, timeout=30) for _ in range(60)]
            assert all(call.exception() for call in calls)
        process.terminate()
        assert process.wait() == 0
        assert len(process.log) < 60 * 16_000
        assert "\u202e" not in process.log
        assert "more like this" in process.log
