"""What speaks HTTP/2 to the callers: grpc.aio itself, or pygrpc-native, whose HTTP/2 work runs outside the GIL.

Both take the same grpc.aio servicers. Only this module knows the difference (docs/adr/0001-frontends.md).
"""

import asyncio
import importlib.util
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from server.api.tls import certificates_of
from server.errors import StartError
from server.settings import Settings

NATIVE = "native"
GRPCIO = "grpcio"
# How long a call may still take after its connection has reached its age.
AGE_GRACE_S = 600.0
# For what else the loop has threads do.
SPARE_THREADS = 32

log = logging.getLogger(__name__)


def _is_news(record: logging.LogRecord) -> bool:
    """grpc.aio logs a traceback for each caller who leaves while the answer is being sent."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)


def choose_frontend(settings: Settings) -> str:
    """Which of the two serves: native if it is installed and supports the settings.

    Raises:
        StartError: native is requested and not installed, or does not support another setting.
    """
    unsupported = [name for name in ("tls_certificate", "tls_client_ca") if getattr(settings, name) is not None]
    if settings.max_connection_age_s and "max_connection_age_s" in settings.model_fields_set:  # set, not the default
        unsupported.append("max_connection_age_s")
    installed = importlib.util.find_spec("pygrpc_native") is not None
    if settings.frontend == NATIVE and unsupported:
        raise StartError(f"frontend native does not support {' and '.join(unsupported)}; pass --frontend grpcio")
    if settings.frontend == NATIVE and not installed:
        raise StartError("frontend native needs pygrpc-native: pip install 'ganserve[native]'")
    if settings.frontend != GRPCIO and installed and unsupported:
        log.info("front end grpcio: native does not support %s", " and ".join(unsupported))
    if settings.frontend == GRPCIO or unsupported or not installed:
        return GRPCIO
    return NATIVE


def make_server(settings: Settings, frontend: str) -> grpc.aio.Server:
    """A server of that kind with the settings' limits, without services or port."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.so_reuseport", 0),  # a port that is taken must be an error
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]
    if frontend == GRPCIO and settings.max_connection_age_s:  # gRPC varies it by a tenth
        options.append(("grpc.max_connection_age_ms", int(settings.max_connection_age_s * 1000)))
        options.append(("grpc.max_connection_age_grace_ms", int(AGE_GRACE_S * 1000)))
    if frontend == NATIVE:
        import pygrpc_native.aio

        # It waits for a client that does not read in a thread of the loop's.
        threads = ThreadPoolExecutor(settings.max_streams + SPARE_THREADS, "write")
        asyncio.get_running_loop().set_default_executor(threads)
        server: grpc.aio.Server = pygrpc_native.aio.server(options=options)
        return server
    return grpc.aio.server(options=options)


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


def sends_pushback(frontend: str) -> bool:
    """Whether a rejected call can carry `grpc-retry-pushback-ms`: the native front end sends no key of that prefix."""
    return frontend == GRPCIO


Streaming = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Any]


def add_reflection(server: grpc.aio.Server, services: Iterable[str], guard: Callable[[Streaming], Streaming]) -> None:
    """Lets tools such as grpcurl list the services. `guard`: checks a caller before the method runs."""
    names = [*services, reflection.SERVICE_NAME]
    method = guard(reflection.aio.ReflectionServicer(names).ServerReflectionInfo)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(SimpleNamespace(ServerReflectionInfo=method), server)
