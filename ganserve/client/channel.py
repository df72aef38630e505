"""How both clients connect, spread their calls over servers, and try again."""

import json
from typing import Any

MOST_RETRIES = 4  # gRPC makes five attempts at most
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
SERVICE = "ganserve.v1.ImageService"
# A server that goes away, or has no room, and what gRPC itself says of a call that reaches a server in its last moment.
RETRYABLE = ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"]
# A call keeps its request until it is answered, so that it can be sent again; gRPC alone would keep 256 KiB, which a
# picture exceeds.
KEPT_BYTES = 1 << 30


def channel_options(server: str, retries: int) -> list[tuple[str, int | str]]:
    """gRPC channel options: messages of any size, calls in turn to every address that the name resolves to.

    A target with a scheme (`dns:///name:port`, `ipv4:host:port,host:port`) names servers one by one, not a balancer
    before them. The health of each is then watched, so that one that is about to stop gets no more calls. Through a
    balancer the watch would see one server and close the way to all.

    A server may close a connection that pings more often than every 5 minutes while no data flows, as in a long
    Upscale (gRPC's default, and Triton's); the keepalive is therefore a little slower than that.

    Raises:
        ValueError: more retries than gRPC makes.
    """
    if not 0 <= retries <= MOST_RETRIES:
        raise ValueError(f"retries must be 0..{MOST_RETRIES}, got {retries}")
    scheme, hosts = _parts(server)
    options: list[tuple[str, int | str]] = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.keepalive_time_ms", 310_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.dns_min_time_between_resolutions_ms", 1000),  # a rollout can be over before gRPC's 30 s are
        ("grpc.enable_retries", int(retries > 0)),
        ("grpc.per_rpc_retry_buffer_size", KEPT_BYTES),
        ("grpc.service_config", json.dumps(_service_config(retries, watch_health=bool(scheme)))),
    ]
    if all(host in LOOPBACK for host in hosts):
        options.append(("grpc.enable_http_proxy", 0))
    return options


def _service_config(retries: int, watch_health: bool) -> dict[str, Any]:
    """https://github.com/grpc/grpc/blob/master/doc/service_config.md; the backoffs have a jitter of a fifth."""
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
        config["methodConfig"] = [{"name": [{"service": SERVICE}], "retryPolicy": policy}]
    return config


def _parts(server: str) -> tuple[str, list[str]]:
    """(scheme or empty, hosts) of a target."""
    scheme, colon, rest = server.partition(":")
    if not colon or scheme not in ("dns", "ipv4", "ipv6"):
        scheme, rest = "", server
    addresses = rest.rpartition("/")[2].split(",")
    return scheme, [address.rpartition(":")[0] for address in addresses]
