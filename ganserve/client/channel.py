"""gRPC channel options of both clients: message sizes, load balancing, retries, keepalive; and their API key."""

import json
from functools import partial
from typing import Any

import grpc

from ganserve.v1 import images_pb2
from ganserve.v1.images_pb2_grpc import ImageServiceStub

MAX_RETRIES = 4  # gRPC limits a call to five attempts
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
SERVICE, TENSORS = "ganserve.v1.ImageService", "inference.GRPCInferenceService"
# The server goes away or its queue is full. CANCELLED is what gRPC reports for a call that reaches a stopping server.
RETRYABLE = ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"]
# A call keeps its request until the first reply, so that it can be sent again. gRPC's default is 256 KiB, which an
# image exceeds.
RETRY_BUFFER_BYTES = 1 << 30


def channel_options(server: str, retries: int) -> list[tuple[str, int | str]]:
    """Messages of any size; calls go round-robin to every address that the name resolves to.

    A target with a scheme (`dns:///name:port`, `ipv4:host:port,host:port`) names the servers themselves, not a load
    balancer. The health of each is then watched, so that a stopping server gets no more calls. Through a load balancer
    the watch would see one server and close the connection to all.

    A server may close a connection that pings more often than every 5 minutes while no data flows, as in a long
    Upscale (gRPC's default, and Triton's); the keepalive time is therefore a little longer than that.

    Raises:
        ValueError: more retries than gRPC supports.
    """
    if not 0 <= retries <= MAX_RETRIES:
        raise ValueError(f"retries must be 0..{MAX_RETRIES}, got {retries}")
    scheme, hosts = _parts(server)
    options: list[tuple[str, int | str]] = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.keepalive_time_ms", 310_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.dns_min_time_between_resolutions_ms", 1000),  # a rollout can take less than gRPC's 30 s
        ("grpc.enable_retries", int(retries > 0)),
        ("grpc.per_rpc_retry_buffer_size", RETRY_BUFFER_BYTES),
        ("grpc.service_config", json.dumps(_service_config(retries, watch_health=bool(scheme)))),
    ]
    if all(host in LOOPBACK for host in hosts):
        options.append(("grpc.enable_http_proxy", 0))
    return options


def make_stub(channel: grpc.Channel | grpc.aio.Channel, api_key: str | None) -> Any:
    """The service's methods, and ModelInfer, of serialised messages; with a key, each call carries it.

    Raises:
        ValueError: a key that no header can hold.
    """
    stub: Any = ImageServiceStub(channel)
    stub.ModelInfer = channel.unary_unary(f"/{TENSORS}/ModelInfer")
    if api_key is not None:
        if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise ValueError("api_key must be printable ASCII characters without spaces")
        metadata = (("authorization", f"Bearer {api_key}"),)
        methods = images_pb2.DESCRIPTOR.services_by_name["ImageService"].methods
        for name in (*(method.name for method in methods), "ModelInfer"):
            setattr(stub, name, partial(getattr(stub, name), metadata=metadata))
    return stub


def _service_config(retries: int, watch_health: bool) -> dict[str, Any]:
    """https://github.com/grpc/grpc/blob/master/doc/service_config.md; the backoffs have a jitter of 20 %."""
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if watch_health:
        config["healthCheckConfig"] = {"serviceName": ""}
    if retries:
        policy = {
            "maxAttempts": retries + 1,
            "initialBackoff": "0.1s",
            "maxBackoff": "3s",
            "backoffMultiplier": 3,
            "retryableStatusCodes": RETRYABLE,
        }
        config["methodConfig"] = [{"name": [{"service": SERVICE}, {"service": TENSORS}], "retryPolicy": policy}]
    return config


def _parts(server: str) -> tuple[str, list[str]]:
    """(scheme or empty, hosts) of a target."""
    scheme, colon, rest = server.partition(":")
    if not colon or scheme not in ("dns", "ipv4", "ipv6"):
        scheme, rest = "", server
    addresses = rest.rpartition("/")[2].split(",")
    return scheme, [address.rpartition(":")[0] for address in addresses]
