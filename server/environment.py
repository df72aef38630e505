"""The environment that a server starts in: GANSERVE_<NAME> for every setting, unknown names are errors."""

import os
import re

from pydantic import ValidationError

from server.errors import StartError
from server.settings import PREFIX, Settings

# Read by the client's commands, which may run in the same environment.
NOT_SETTINGS = {"GANSERVE_CLIENT_API_KEY", "GANSERVE_SERVER"}
# What Kubernetes sets in every pod for each Service of its namespace, here one named ganserve or ganserve-...
_LINK_NAME = re.compile(
    PREFIX + r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)", re.IGNORECASE
)
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://\S*")


def visible_gpus() -> str | None:
    """CUDA_VISIBLE_DEVICES, None if it is not set."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def instruction_set_cap() -> str | None:
    """ONEDNN_MAX_CPU_ISA, which limits the instructions that OpenVINO uses; None if it is not set."""
    return os.environ.get("ONEDNN_MAX_CPU_ISA")


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes has set the variable for a Service, and nobody for this server."""
    is_url = name.upper().endswith("_PORT") and _LINK_VALUE.fullmatch(value) is not None
    return is_url or _LINK_NAME.fullmatch(name) is not None


def read_settings(**given: object) -> Settings:
    """Settings from the arguments, then the environment, then the defaults. None: not given.

    Raises:
        StartError: a value out of range or an unknown GANSERVE_ variable; the text names each in one line. Variables
            of Kubernetes' service links are neither settings nor unknown.
    """
    known = NOT_SETTINGS | {PREFIX + name.upper() for name in Settings.model_fields}
    ours = {name: value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    links = {name for name, value in ours.items() if _is_service_link(name, value)}
    unknown = sorted(name for name in ours if name.upper() not in known and name not in links)
    if unknown:
        raise StartError(f"unknown setting in the environment: {', '.join(unknown)}")
    shadowed = {name.upper().removeprefix(PREFIX).lower() for name in links if name.upper() in known}
    chosen = {name: Settings.model_fields[name].default for name in shadowed}
    chosen |= {name: value for name, value in given.items() if value is not None}
    try:
        return Settings(**chosen)
    except ValidationError as error:
        parts = (f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors())
        raise StartError("; ".join(parts)) from None
