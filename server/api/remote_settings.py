"""Settings of the log and of traces that callers may read, and change while the server runs, by Triton's names."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from server.errors import InvalidRequest, PermissionDenied, Unsupported
from server.observability import logs
from server.observability.trace import Tracer
from server.settings import Settings

_LEVELS = ("log_info", "log_warning", "log_error")
# Triton's words for a format and ours. Times are ISO 8601 in both.
_FORMATS: Mapping[str, Literal["text", "json"]] = {
    "default": "text", "ISO8601": "text", "text": "text", "json": "json",
}  # fmt: skip
# What we have no equivalent of, and its only value.
_FIXED_TRACE = {"trace_file": "", "trace_count": "-1", "log_frequency": "0", "trace_mode": "opentelemetry"}
# What a caller sent, of any length, as an error quotes it.
_short = reprlib.repr

# All names.
LOG_SETTINGS = ("log_file", *_LEVELS, "log_verbose_level", "log_format")
TRACE_SETTINGS = ("trace_level", "trace_rate", *_FIXED_TRACE)


class RemoteSettings:
    """What LogSettings and TraceSetting read and change. Loop thread only."""

    def __init__(self, settings: Settings, tracer: Tracer | None) -> None:
        self._may_change = settings.is_guarded
        self._level: str = settings.log_level
        self._format = "json" if settings.log_format == "json" else "ISO8601"
        self._tracer = tracer
        self._is_tracing = tracer is not None
        self._first_level = "OFF" if tracer is None else "TIMESTAMPS"
        self._first_ratio = self._ratio = settings.trace_ratio

    def log(self) -> dict[str, bool | int | str]:
        """The settings of the log."""
        order = ("debug", "info", "warning", "error", "none").index(self._level)
        flags = {name: order <= index for index, name in enumerate(_LEVELS, 1)}
        verbose = 1 if self._level == "debug" else 0
        return {"log_file": "", **flags, "log_verbose_level": verbose, "log_format": self._format}

    def change_log(self, changes: Mapping[str, Any]) -> None:
        """Changes the log's level and format at once; all or nothing.

        Args:
            changes: by name a LogSettingsRequest.SettingValue.

        Raises:
            PermissionDenied: callers may not.
            InvalidRequest: an unknown name, a value of another type, or levels that are no order.
            Unsupported: another file.
        """
        if not changes:
            return
        self._check_allowed()
        new = self.log()
        for key, value in changes.items():
            kind = value.WhichOneof("parameter_choice")
            found = getattr(value, kind) if kind else None
            if key not in new or type(found) is not type(new[key]):
                known = ", ".join(f"{name} ({type(each).__name__})" for name, each in new.items())
                raise InvalidRequest(f"log setting {_short(key)}: {_short(found)} given; there are {known}")
            new[key] = found
        if new["log_file"]:
            raise Unsupported("log_file: the log goes to standard error, to no file")
        if new["log_format"] not in _FORMATS:
            raise InvalidRequest(f"log_format: {_short(new['log_format'])} given; must be one of {', '.join(_FORMATS)}")
        shown = [bool(new[name]) for name in _LEVELS]
        if shown != sorted(shown):
            raise InvalidRequest(f"{', '.join(_LEVELS)}: a level is written only with those above; set all three")
        quiet = "none" if not any(shown) else ("info", "warning", "error")[shown.index(True)]
        self._level = "debug" if new["log_verbose_level"] else quiet
        self._format = str(new["log_format"])
        logs.change(self._level, _FORMATS[self._format])

    def trace(self) -> dict[str, list[str]]:
        """The settings of traces."""
        rate = str(round(1 / self._ratio)) if self._ratio else "0"
        level = "TIMESTAMPS" if self._is_tracing and self._ratio else "OFF"
        return {"trace_level": [level], "trace_rate": [rate], **{key: [value] for key, value in _FIXED_TRACE.items()}}

    def change_trace(self, model: str, changes: Mapping[str, Sequence[str]]) -> None:
        """Changes the share of requests that are traced, of those whose caller did not decide; all or nothing.

        Args:
            model: empty for all models.
            changes: values by name; none: as at the start.

        Raises:
            PermissionDenied: callers may not.
            InvalidRequest: an unknown name or value.
            Unsupported: what has no equivalent here, a single model's settings, or no collector.
        """
        if not changes:
            return
        self._check_allowed()
        if model:
            raise Unsupported(f"model {model!r}: trace settings are those of all models; leave the name empty")
        ratio, level = self._ratio, self.trace()["trace_level"][0]
        for key, values in changes.items():
            if key == "trace_level":
                level = _level_of(values) if values else self._first_level
            elif key == "trace_rate":
                ratio = _ratio_of(values) if values else self._first_ratio
            elif key not in _FIXED_TRACE:
                known = ", ".join(self.trace())
                raise InvalidRequest(f"trace setting {_short(key)} is unknown; there are {known}")
            elif values and (len(values) > 1 or values[0] != _FIXED_TRACE[key]):
                raise Unsupported(f"{key}: only {_FIXED_TRACE[key]!r} is offered; spans go to otlp_endpoint")
        if self._tracer is None:
            if level != "OFF":
                raise Unsupported("trace_level: there is no collector; set GANSERVE_OTLP_ENDPOINT")
            return
        self._is_tracing, self._ratio = level != "OFF", ratio
        self._tracer.sample(ratio if self._is_tracing else 0.0)

    def _check_allowed(self) -> None:
        if not self._may_change:
            raise PermissionDenied(
                "settings can be changed over the network only with API keys (role control), or if the server listens "
                "on loopback alone"
            )


def _level_of(values: Sequence[str]) -> str:
    if len(values) != 1 or values[0] not in ("OFF", "TIMESTAMPS"):
        raise Unsupported(f"trace_level: {_short(list(values[:3]))} given; OFF or TIMESTAMPS are offered")
    return values[0]


def _ratio_of(values: Sequence[str]) -> float:
    text = values[0] if len(values) == 1 else ""
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InvalidRequest(f"trace_rate: {_short(list(values[:3]))} given; must be a number: one of so many requests")
    return 1 / int(text) if int(text) else 0.0
