"""How both clients connect."""

import json

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def channel_options(server: str) -> list[tuple[str, int | str]]:
    """gRPC channel options: messages of any size, calls spread over every address that the name resolves to.

    A server may close a connection that pings more often than every 5 minutes while no data flows, as in a long
    Upscale (gRPC's default, and Triton's); the keepalive is therefore a little slower than that.
    """
    options: list[tuple[str, int | str]] = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.keepalive_time_ms", 310_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ]
    if server.rpartition(":")[0] in LOOPBACK:
        options.append(("grpc.enable_http_proxy", 0))
    return options
