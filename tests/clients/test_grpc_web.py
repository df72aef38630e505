"""grpc-web, as browsers speak it, through Envoy's filter: frames in the body of a POST over HTTP/1.1."""

import base64
import json
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from ganserve.v1 import images_pb2
from tests.scale.balancer import ENVOY, LOOPBACK, free_ports
from tests.scale.replicas import LONGEST_S, wait_until
from tests.serving import ServerProcess

TYPES = "type.googleapis.com/envoy.extensions"
FILTERS = "envoy.filters.http"


def configuration(port: int, upstream: int) -> dict[str, Any]:
    """Envoy's least with the filter for grpc-web."""

    def at(number: int) -> dict[str, Any]:
        return {"address": {"socket_address": {"address": LOOPBACK, "port_value": number}}}

    filters = [
        {
            "name": f"{FILTERS}.{name}",
            "typed_config": {"@type": f"{TYPES}.filters.http.{name}.v3.{kind}"},
        }
        for name, kind in (("grpc_web", "GrpcWeb"), ("router", "Router"))
    ]
    route = {"match": {"prefix": "/"}, "route": {"cluster": "ganserve", "timeout": "0s"}}
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    protocol = {
        "@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    cluster = {
        "name": "ganserve",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
        "load_assignment": {
            "cluster_name": "ganserve",
            "endpoints": [{"lb_endpoints": [{"endpoint": at(upstream)}]}],
        },
    }
    return {
        "static_resources": {
            "listeners": [{"name": "web", **at(port), "filter_chains": [chain]}],
            "clusters": [cluster],
        }
    }


@pytest.fixture
def web(server: ServerProcess, tmp_path: Path) -> Iterator[httpx.Client]:
    (port,) = free_ports(LOOPBACK, 1)
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(configuration(port, server.grpc_port)))
    command = [str(ENVOY), "-c", str(path), "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error"]
    with subprocess.Popen(command) as envoy, httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as client:

        def is_open() -> bool:
            assert envoy.poll() is None
            try:
                return client.get("/").status_code > 0
            except httpx.ConnectError:
                return False

        try:
            wait_until(is_open, "Envoy listens")
            yield client
        finally:
            envoy.kill()
            envoy.wait(LONGEST_S)


def frames(body: bytes) -> list[tuple[int, bytes]]:
    """(flags, payload): 0x80 of the flags marks the trailers."""
    found = []
    while body:
        flags, length = struct.unpack(">BI", body[:5])
        found.append((flags, body[5 : 5 + length]))
        body = body[5 + length :]
    return found


def call(client: httpx.Client, method: str, message: Any, form: str = "") -> tuple[list[bytes], dict[str, str]]:
    """The messages and the trailers. `form`: `-text` for base64, as browsers without streams need it."""
    data = message.SerializeToString()
    body = struct.pack(">BI", 0, len(data)) + data
    kind = f"application/grpc-web{form}+proto"
    headers = {"content-type": kind, "accept": kind, "x-grpc-web": "1"}
    answer = client.post(f"/{method}", content=base64.b64encode(body) if form else body, headers=headers)
    assert answer.status_code == 200
    if "grpc-status" in answer.headers:
        return [], dict(answer.headers)
    text = answer.content
    if form:  # pieces that are padded by themselves
        text = b"".join(base64.b64decode(piece) for piece in re.findall(rb"[^=]+=*", text))
    found = frames(text)
    trailers = dict(line.split(":", 1) for line in found[-1][1].decode().strip().split("\r\n"))
    assert found[-1][0] == 0x80
    return [payload for _, payload in found[:-1]], trailers


@pytest.mark.parametrize("form", ["", "-text"])
def test_browsers_get_tensors_and_images(web: httpx.Client, form: str) -> None:
    tensor = {"name": "latent", "datatype": "FP32", "shape": [1, 4]}
    request = pb.ModelInferRequest(model_name="tiny", inputs=[tensor])
    request.raw_input_contents.append(np.ones(4, np.float32).tobytes())
    (data,), trailers = call(web, "inference.GRPCInferenceService/ModelInfer", request, form)
    assert trailers["grpc-status"] == "0"
    answer = pb.ModelInferResponse.FromString(data)
    np.testing.assert_array_equal(
        np.frombuffer(answer.raw_output_contents[0], np.uint8), np.arange(48).reshape(4, 12).sum(0)
    )
    wanted = images_pb2.GenerateRequest(model="styled", labels=["one"])
    wanted.seeds.values.extend([1, 2, 3])
    messages, trailers = call(web, "ganserve.v1.ImageService/GenerateStream", wanted, form)
    assert (len(messages), trailers["grpc-status"]) == (3, "0")


def test_browsers_get_errors(web: httpx.Client) -> None:
    messages, trailers = call(web, "inference.GRPCInferenceService/ModelInfer", pb.ModelInferRequest(model_name="no"))
    assert (messages, trailers["grpc-status"]) == ([], "5")
