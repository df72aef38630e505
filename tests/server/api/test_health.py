"""grpc.health.v1 through real servers and the real stub."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.api.calls import Calls
from server.api.health import Health
from server.api.native import NativeServer
from server.observability.metrics import Metrics

Response = health_pb2.HealthCheckResponse
TIMEOUT_S = 10


@dataclass
class Served:
    health: Health
    stub: Any

    async def check(self, name: str) -> int:
        answer = await self.stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT_S)
        return int(answer.status)

    def watch(self, name: str) -> Any:
        return self.stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT_S)


async def told(watch: Any) -> int:
    return int((await watch.read()).status)


@asynccontextmanager
async def serve(server: Any) -> AsyncIterator[Served]:
    health = Health()
    wrapped = Calls(Metrics()).wrap(health, "grpc.health.v1.Health", ["Check", "Watch"])
    health_pb2_grpc.add_HealthServicer_to_server(wrapped, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(health, health_pb2_grpc.HealthStub(channel))
    await server.stop(None)


@pytest.fixture(params=["grpcio", "native"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serve(grpc.aio.server() if request.param == "grpcio" else NativeServer([], 1 << 20, 1 << 16)) as running:
        yield running


async def test_a_server_that_has_just_started_is_not_serving(served: Served) -> None:
    assert await served.check("") == Response.NOT_SERVING


async def test_check_tells_server_and_model_apart(served: Served) -> None:
    served.health.set("", True)
    served.health.set("faces", False)
    served.health.set("ganserve.v1.ImageService", True)
    assert await served.check("") == Response.SERVING
    assert await served.check("faces") == Response.NOT_SERVING
    assert await served.check("ganserve.v1.ImageService") == Response.SERVING


async def test_check_of_an_unknown_name_is_not_found(served: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="'nobody'") as caught:
        await served.check("nobody")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_watch_tells_the_status_now_and_then_each_change(served: Served) -> None:
    watch = served.watch("")
    assert await told(watch) == Response.NOT_SERVING
    served.health.set("", True)
    assert await told(watch) == Response.SERVING
    served.health.set("", True)
    served.health.set("", False)
    assert await told(watch) == Response.NOT_SERVING


async def test_a_watch_of_an_unknown_name_stays_open_until_the_name_appears(served: Served) -> None:
    watch = served.watch("faces")
    assert await told(watch) == Response.SERVICE_UNKNOWN
    served.health.set("digits", True)
    served.health.set("faces", True)
    assert await told(watch) == Response.SERVING


async def test_close_tells_every_watch_and_ends_it(served: Served) -> None:
    served.health.set("", True)
    watches = [served.watch(""), served.watch(""), served.watch("nobody")]
    assert [await told(watch) for watch in watches] == [Response.SERVING, Response.SERVING, Response.SERVICE_UNKNOWN]
    served.health.close()
    assert [await told(watch) for watch in watches[:2]] == [Response.NOT_SERVING] * 2
    for watch in watches:
        assert await watch.read() is grpc.aio.EOF
        assert await watch.code() == grpc.StatusCode.OK


async def test_after_close_nothing_serves_again(served: Served) -> None:
    served.health.set("", True)
    served.health.close()
    served.health.set("", True)
    assert await served.check("") == Response.NOT_SERVING
    watch = served.watch("")
    assert await told(watch) == Response.NOT_SERVING
    assert await watch.read() is grpc.aio.EOF


async def test_a_watch_whose_client_left_does_not_hold_the_others_up(served: Served) -> None:
    leaving, staying = served.watch(""), served.watch("")
    assert await told(leaving) == Response.NOT_SERVING
    assert await told(staying) == Response.NOT_SERVING
    leaving.cancel()
    served.health.set("", True)
    assert await told(staying) == Response.SERVING
