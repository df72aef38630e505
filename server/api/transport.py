"""What speaks HTTP/2 to the callers: grpc.aio itself, or pygrpc-native, whose HTTP/2 work runs outside the GIL.

Both take the same grpc.aio servicers. Only this module knows the difference (docs/adr/0001-frontends.md).
"""

import importlib.util
import logging
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from server.api.tls import certificates_of
from server.api.unknown_methods import make_tolerant_server
from server.engines.onnx.cpu import cores
from server.errors import StartError
from server.images.memory import MemoryBudget
from server.settings import Settings, is_loopback

NATIVE = "native"
GRPCIO = "grpcio"
# Of a call's metadata, as HTTP/2 counts it: tokens and traces of proxies are longer than gRPC's 8 to 16 kB.
MAX_METADATA_BYTES = 64 << 10
# Clients may ping every 5 s, with or without calls; pings do not come to the millisecond.
MIN_PING_MS = 4_000
# A connection on which nothing comes for so long is pinged, and closed if nobody answers.
PING_AFTER_MS = 60_000
PING_TIMEOUT_MS = 20_000
# A connection must be ready for calls (TLS, HTTP/2's settings) within this time.
HANDSHAKE_MS = 20_000
# That the native front end speaks HTTP/2 on: more than one wake each other, which on few cores is the larger part.
MOST_IO_THREADS = 2

# What anybody who reaches the native front end may have it do.
UNLIMITED = "the size that compressed messages inflate to nor messages that do not arrive"

log = logging.getLogger(__name__)


def _is_news(record: logging.LogRecord) -> bool:
    """grpc.aio logs a traceback for each caller who leaves while the answer is being sent."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)


def choose_frontend(settings: Settings) -> str:
    """Which of the two serves: native if it is installed, supports the settings, and only this machine reaches it.

    Raises:
        StartError: native is requested and not installed, or does not support another setting.
    """
    unsupported = [name for name in ("tls_certificate", "tls_client_ca") if getattr(settings, name) is not None]
    if settings.max_connection_age_s and "max_connection_age_s" in settings.model_fields_set:  # set, not the default
        unsupported.append("max_connection_age_s")
    installed = importlib.util.find_spec("pygrpc_native") is not None
    if settings.frontend == NATIVE:
        if unsupported:
            raise StartError(f"frontend native does not support {' and '.join(unsupported)}; pass --frontend grpcio")
        if not installed:
            raise StartError("frontend native needs pygrpc-native: pip install 'ganserve[native]'")
        if not is_loopback(settings.address):
            log.warning("front end native on %s: it limits neither %s", settings.address, UNLIMITED)
        return NATIVE
    if settings.frontend == GRPCIO or not installed:
        return GRPCIO
    if unsupported:
        log.info("front end grpcio: native does not support %s", " and ".join(unsupported))
        return GRPCIO
    if not is_loopback(settings.address):
        log.info("front end grpcio: native limits neither %s, and other machines reach %s", UNLIMITED, settings.address)
        return GRPCIO
    return NATIVE


def make_server(settings: Settings, frontend: str, max_connections: int) -> grpc.aio.Server:
    """A server of that kind with the settings' limits, without services or port.

    Args:
        max_connections: beyond, grpcio closes new ones; see `connections`.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_concurrent_streams", settings.max_calls_per_connection),
        # Between the two gRPC rejects some calls and not others.
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.so_reuseport", 0),  # a port that is taken must be an error
        ("grpc.keepalive_time_ms", PING_AFTER_MS),
        ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    if frontend == NATIVE:
        from server.api.native import NativeServer  # only where pygrpc-native is installed

        return NativeServer(
            options,
            settings.max_message_bytes,
            MAX_METADATA_BYTES,
            max_concurrent_streams=settings.max_calls_per_connection,
            keepalive_time_ms=PING_AFTER_MS,
            keepalive_timeout_ms=PING_TIMEOUT_MS,
            io_threads=max(1, min(MOST_IO_THREADS, cores() // 2)),
        )
    options += [
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_MS),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        ("grpc.max_allowed_incoming_connections", max_connections),
    ]
    if settings.max_connection_age_s:  # gRPC varies it by a tenth
        # Without a grace: calls and streams that have begun go on, on the old connection, until they end.
        options.append(("grpc.max_connection_age_ms", int(settings.max_connection_age_s * 1000)))
    return make_tolerant_server(options)


def open_port(server: grpc.aio.Server, settings: Settings) -> int:
    """The port that the server listens on.

    Raises:
        StartError: the port is taken, or a TLS file cannot be used.
    """
    address = f"{settings.address}:{settings.grpc_port}"
    certificates = certificates_of(settings)
    try:
        if certificates is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, certificates.credentials())
    except RuntimeError as error:
        raise StartError(f"gRPC cannot listen on {address}: {error}") from None
    if not port:
        raise StartError(f"gRPC cannot listen on {address}")
    return port


def says_goaway(frontend: str) -> bool:
    """Whether `stop` tells callers that their connection accepts no more calls, and then waits for the running ones.

    Callers then connect again, to another replica if there is one, and lose next to nothing, even without retries. The
    native front end only closes connections with all calls on them, so calls must be rejected before.
    """
    return frontend == GRPCIO


def awaits_messages(frontend: str) -> bool:
    """Whether a call begins with its headers, so that its message may still be on its way."""
    return frontend == GRPCIO


def ends_by_itself(frontend: str) -> bool:
    """Whether its server may end although nobody has stopped it; `wait_for_termination` then raises the cause."""
    return frontend == GRPCIO


def keeps_replies(frontend: str) -> bool:
    """Whether a call ends when its client has read the reply, so that what the reply holds is counted until then."""
    return frontend == GRPCIO


def limit_unread(server: grpc.aio.Server, budget: MemoryBudget, idle_s: float) -> None:
    """Has a server that tells nobody when a reply was read count what was not; see `native_unread`."""
    from server.api.native import NativeServer  # only where pygrpc-native is installed

    assert isinstance(server, NativeServer)
    server.limit_unread(budget, idle_s)


def limits_connections(frontend: str) -> bool:
    """Whether its server itself has no more connections than it was given."""
    return frontend == GRPCIO


def sends_pushback(frontend: str) -> bool:
    """Whether a rejected call can carry `grpc-retry-pushback-ms`: the native front end sends no key of that prefix."""
    return frontend == GRPCIO


def add_reflection(server: grpc.aio.Server, services: Iterable[str], guard: Callable[[Any], Any]) -> None:
    """Lets tools such as grpcurl list the services. `guard`: makes of the method one that checks its caller first, and
    writes its answers."""
    names = [*services, reflection.SERVICE_NAME]
    method = guard(reflection.aio.ReflectionServicer(names).ServerReflectionInfo)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(SimpleNamespace(ServerReflectionInfo=method), server)
