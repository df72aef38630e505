"""Who may call what: API keys, restricted groups of RPCs, quotas, and a log line for each control call.

Servicers are wrapped where something is to be checked; without keys and restrictions the methods that serve requests
stay as they are.
"""

import asyncio
import functools
import hmac
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from server.api.calls import TAKES_REFUSALS, Context
from server.api.keys import KeyFile, Role
from server.api.quotas import current_quotas
from server.api.remote_settings import LOG_SETTINGS, TRACE_SETTINGS
from server.errors import GanserveError, PermissionDenied, StartError
from server.observability.context import RequestContext, current
from server.observability.trace import Metadata
from server.settings import Settings, is_loopback

# Triton's groups of RPCs, for `grpc_restricted_protocol`, and `image` for those of our own service.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "health": ("ServerLive", "ServerReady", "ModelReady", "Check", "Watch"),
    "metadata": ("ServerMetadata", "ModelMetadata", "ListModels", "ListDirections", "GetJudge"),
    "inference": ("ModelInfer", "ModelStreamInfer"),
    "image": ("Generate", "GenerateStream", "Upscale", "UpscaleStream", "Translate", "Score", "GetImage"),
    "shared-memory": (
        "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister",
        "CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister",
    ),
    "model-config": ("ModelConfig",),
    "model-repository": ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
    "statistics": ("ModelStatistics",),
    "trace": ("TraceSetting",),
    "logging": ("LogSettings",),
}  # fmt: skip
RESTRICTED_HEADER = "triton-grpc-protocol-"
CONTROL = ("RepositoryModelLoad", "RepositoryModelUnload")
# RPCs that read settings if they have none, and change them else.
SETTINGS = (*GROUPS["trace"], *GROUPS["logging"])
# What changes the server for others.
AUDITED = (*CONTROL, *SETTINGS, *(rpc for rpc in GROUPS["shared-memory"] if not rpc.endswith("Status")))
# Every RPC that is not here and not health needs a key, with any role.
ROLE_OF: Mapping[str, Role] = {
    **dict.fromkeys((*GROUPS["inference"], *GROUPS["image"], *GROUPS["shared-memory"]), Role.INFER),
    **dict.fromkeys((*CONTROL, *SETTINGS), Role.CONTROL),
}

# Written at every level of the log, which callers with the role `control` may change.
audit = logging.getLogger(f"{__name__}.audit")
audit.setLevel(logging.INFO)

Check = Callable[[RequestContext], None]


@dataclass(frozen=True)
class Exposed:
    """Who may reach the server, and what they may do.

    Attributes:
        address: that all ports listen on.
        tls: of gRPC and the HTTP API: "off", "server" or "mutual" (clients need a certificate).
        api_keys: how many there are; 0: callers need none.
        model_control: whether clients may load and unload models.
    """

    address: str
    tls: str
    api_keys: int
    model_control: bool

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        return is_loopback(self.address)

    def __str__(self) -> str:
        words = {"off": "no TLS", "server": "TLS", "mutual": "TLS with client certificates"}
        keys = f"{self.api_keys} API keys" if self.api_keys else "no API keys"
        return f"{words[self.tls]}, {keys}, model control {'on' if self.model_control else 'off'}"


class Access:
    """What a server's settings demand of its callers. Loop thread only."""

    def __init__(self, settings: Settings) -> None:
        """Reads the file of keys.

        Raises:
            StartError: it cannot be used, or a restriction cannot be read.
        """
        self._keys = None if settings.api_keys is None else KeyFile(settings.api_keys)
        self._restrictions = read_restrictions(settings.grpc_restricted_protocol or "")
        self._tls = "off" if settings.tls_certificate is None else "mutual" if settings.tls_client_ca else "server"
        self._settings = settings

    @property
    def exposed(self) -> Exposed:
        """What of the server is exposed to whom."""
        settings = self._settings
        keys = len(self._keys) if self._keys is not None else 0
        return Exposed(settings.address, self._tls, keys, settings.model_control == "explicit")

    def guard(self, servicer: object, methods: list[str]) -> SimpleNamespace:
        """An object with the same methods, which check the caller first, to be wrapped by `Calls`."""
        return SimpleNamespace(**{rpc: self._guarded(rpc, getattr(servicer, rpc)) for rpc in methods})

    def guard_reflection(
        self, method: Callable[[Any, Context], AsyncGenerator[Any, None]]
    ) -> Callable[[Any, Context], AsyncGenerator[Any, None]]:
        """The method for callers with a key only; it raises an AccessError."""
        keys = self._keys
        if keys is None:
            return method

        @functools.wraps(method)
        async def call(requests: AsyncIterator[Any], context: Context) -> AsyncGenerator[Any, None]:
            keys.find(_value(context.invocation_metadata() or (), "authorization"))
            async with aclosing(method(requests, context)) as answers:
                async for answer in answers:
                    yield answer

        return call

    def check_reader(self, authorization: str | None) -> None:
        """Checks who reads the metrics over HTTP.

        Raises:
            Unauthenticated: no key, or an unknown one.
            PermissionDenied: it lacks the role `metrics`.
        """
        if self._keys is not None:
            self._keys.find(authorization).check_role(Role.METRICS)

    def _guarded(self, rpc: str, method: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Any]:
        checks: list[Check] = []
        if rpc in self._restrictions:
            checks.append(functools.partial(_check_header, *self._restrictions[rpc]))
        if self._keys is not None and rpc not in GROUPS["health"]:
            checks.append(functools.partial(self._check_key, self._keys, ROLE_OF.get(rpc)))
        if checks:
            method = (_checked if asyncio.iscoroutinefunction(method) else _checked_stream)(method, checks)
        return _audited(rpc, method) if rpc in AUDITED else method

    def _check_key(self, keys: KeyFile, role: Role | None, request: RequestContext) -> None:
        caller = keys.find(_value(request.metadata, "authorization"))
        request.client = f"key:{caller.name}"
        if role is not None:
            caller.check_role(role)
        caller.quotas.take_request()
        current_quotas.set(caller.quotas)


def read_restrictions(text: str) -> dict[str, tuple[str, str]]:
    """The header that each restricted RPC needs: its name and value.

    Raises:
        StartError: not as Triton writes it, an unknown group, or a group that is named twice.
    """
    found: dict[str, tuple[str, str]] = {}
    for part in text.split():
        groups, _, header = part.partition(":")
        name, equals, value = header.partition("=")
        if not name or not equals or not value:
            raise StartError("grpc_restricted_protocol: must be GROUP,GROUP:NAME=VALUE, several separated by spaces")
        for group in groups.split(","):
            if group not in GROUPS:
                raise StartError(f"grpc_restricted_protocol: no group {group!r}; there are {', '.join(GROUPS)}")
            if GROUPS[group][0] in found:
                raise StartError(f"grpc_restricted_protocol: group {group!r} is named twice")
            found |= dict.fromkeys(GROUPS[group], (RESTRICTED_HEADER + name.lower(), value))
    return found


def _check_header(name: str, value: str, request: RequestContext) -> None:
    if not hmac.compare_digest((_value(request.metadata, name) or "").encode(), value.encode()):
        raise PermissionDenied(f"this RPC is restricted: the header {name!r} is missing or wrong")


def _value(metadata: Metadata, key: str) -> str | None:
    """The first value of a metadata key."""
    return next((str(value) for name, value in metadata if name == key), None)


def _run(checks: list[Check]) -> None:
    request = current.get()
    assert request is not None, "Calls makes it"
    for check in checks:
        check(request)


def _checked(
    method: Callable[[Any, Context], Awaitable[Any]], checks: list[Check]
) -> Callable[[Any, Context], Awaitable[Any]]:
    async def call(request: Any, context: Context) -> Any:
        _run(checks)
        return await method(request, context)

    return call


def _checked_stream(
    method: Callable[[Any, Context], Any], checks: list[Check]
) -> Callable[[Any, Context], AsyncIterator[Any]]:
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        _run(checks)
        async with aclosing(method(request, context)) as answers:
            async for answer in answers:
                yield answer

    return call


def _audited(rpc: str, method: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
    """Writes who changed what, and what became of it."""

    async def call(request: Any, context: Context) -> Any:
        error: BaseException | None = request if isinstance(request, GanserveError) else None
        if error is None and rpc in SETTINGS and not request.settings:
            return await method(request, context)
        try:
            if error is not None:  # refused before it was read
                raise error
            return await method(request, context)
        except BaseException as raised:
            error = raised
            raise
        finally:
            _write_audit(rpc, request, context.peer(), error)

    setattr(call, TAKES_REFUSALS, True)
    return call


class _Region:
    """The name of a region in the log, which a caller may make as long as a message: read for lines that are written
    only, since most refused calls are just counted."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def __str__(self) -> str:
        return str(self._request.name)


def _target(rpc: str, request: Any, model: str, is_done: bool) -> dict[str, object]:
    """What a request of AUDITED is about, as fields of the log. Takes no time for what a caller made large."""
    if isinstance(request, GanserveError):
        return {}
    if rpc not in (*CONTROL, *SETTINGS):
        return {"region": _Region(request)}
    found: dict[str, object] = {"model": model} if rpc != "LogSettings" else {}
    if rpc in SETTINGS:
        found["settings"] = _settings(request.settings, is_done)
    return found


def _settings(settings: Mapping[str, Any], is_done: bool) -> str:
    """Their names, and their values only once those are known to be valid, and so short. upb's messages cannot even
    tell their size without being written."""
    names = [name for name in (*LOG_SETTINGS, *TRACE_SETTINGS) if name in settings]
    if is_done:
        return ", ".join(f"{name}: {' '.join(str(settings[name]).split())}" for name in names)
    unknown = len(settings) - len(names)
    return ", ".join([*names, f"{unknown} unknown"] if unknown else names)


def _write_audit(rpc: str, request: Any, peer: str, error: BaseException | None) -> None:
    context = current.get()
    assert context is not None, "Calls makes it"
    target = _target(rpc, request, context.model, error is None)
    fields = {"rpc": rpc, **target, "client": context.client, "peer": peer}
    if error is None:
        fields["code"] = "OK"
    elif isinstance(error, GanserveError):
        fields |= {"code": error.code, "error": str(error)}
    else:
        fields["code"] = "CANCELLED" if isinstance(error, asyncio.CancelledError) else "INTERNAL"
    # What needs the role `control` and was done is always written. Whatever else may come in any number.
    is_unlimited = error is None and rpc in (*CONTROL, *SETTINGS)
    audit.info("control", extra={"fields": fields, "unlimited": is_unlimited})
