"""Every setting of the server. The only reader of the environment: GANSERVE_<NAME>, unknown names are errors."""

import os
import tempfile
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.errors import StartError

PREFIX = "GANSERVE_"


def _device(value: object) -> object:
    kind, _, index = str(value).partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise ValueError("must be auto, cpu, cuda or cuda:N")
    return value


def _url(value: object) -> object:
    parts = urlsplit(str(value))
    if value is not None and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("must be http://host:port or https://host:port")
    return value


class Settings(BaseSettings):
    """What `ganserve serve` was asked to do. Sizes in bytes or px, durations in seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    repository: Path = Field(description="model repository to serve")
    host: str = Field("0.0.0.0", description="address to listen on")
    grpc_port: int = Field(8001, ge=0, le=65535, description="gRPC port; 0 takes a free one")
    http_port: int = Field(8002, ge=0, le=65535, description="port of /livez, /readyz and /metrics; 0 takes a free one")
    frontend: Literal["auto", "native", "grpcio"] = Field("auto", description="what speaks HTTP/2")
    device: Annotated[str, BeforeValidator(_device)] = Field("auto", description="auto, cpu, cuda or cuda:N")
    engine: Literal["auto", "onnx", "onnx-tensorrt", "tensorrt"] = Field(
        "auto",
        description="what runs models on a GPU. auto: model.plan where this GPU takes it, else model.onnx; onnx: never "
        "plans; onnx-tensorrt: model.onnx through ONNX Runtime's TensorRT provider; tensorrt: plans alone",
    )
    engine_cache: Path | None = Field(
        None, description="where engines that TensorRT builds here are kept; unset: the user's cache folder"
    )
    conv_search: Literal["auto", "heuristic", "exhaustive", "default"] = Field(
        "auto", description="how ONNX Runtime has cuDNN choose convolutions"
    )
    gpu_memory_bytes: int | None = Field(
        None, ge=1 << 20, description="GPU memory that one session of ONNX Runtime may take; unset: no limit"
    )
    threads: int | None = Field(None, ge=1, description="CPU threads for inference; unset: every core")
    codec_threads: int | None = Field(None, ge=1, description="threads that decode and encode pictures; unset: cores")
    model_control: Literal["explicit", "none"] = Field("explicit", description="whether clients may load and unload")
    max_message_bytes: int = Field(256 << 20, ge=1 << 16, le=(1 << 31) - 1, description="largest gRPC message")
    max_queue_rows: int = Field(16384, ge=1, description="images or tiles that may wait, per model")
    max_queue_bytes: int = Field(2 << 30, ge=1, description="bytes that waiting work may hold, per model")
    max_images_per_call: int = Field(4096, ge=1, description="images that one Generate may ask for")
    max_image_px: int = Field(64_000_000, ge=1, description="pixels of a picture, both as sent and as made")
    max_whole_px: int = Field(
        4_194_304, ge=1, description="pixels of a picture that a network takes in one piece (translators), as padded"
    )
    shutdown_delay_s: float = Field(3.0, ge=0, description="after SIGTERM: not ready, still serving, for endpoints")
    drain_s: float = Field(30.0, ge=0, description="after that: longest wait for accepted requests")
    max_connection_age_s: float = Field(
        300.0, ge=0, description="connections end after this, give or take a tenth; 0: never; grpcio only"
    )
    tls_certificate: Path | None = Field(None, description="PEM certificate chain; grpcio only")
    tls_key: Path | None = Field(None, description="PEM private key; grpcio only")
    otlp_endpoint: Annotated[str | None, BeforeValidator(_url)] = Field(
        None, description="collector that takes traces over OTLP's gRPC, http://host:4317; unset: no tracing"
    )
    trace_ratio: float = Field(1.0, ge=0, le=1, description="share of requests to trace where the caller did not say")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe line to log")
    log_format: Literal["text", "json"] = Field("text", description="lines for people or for machines")

    @property
    def cache_folder(self) -> Path:
        """`engine_cache`, or its default. Not inside the repository, which may be read-only."""
        if self.engine_cache is not None:
            return self.engine_cache
        try:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        except RuntimeError:  # a container's user may have no home
            base = Path(tempfile.gettempdir())
        return base / "ganserve"


def visible_gpus() -> str | None:
    """CUDA_VISIBLE_DEVICES as it is set, None where it is not."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def read_settings(**given: object) -> Settings:
    """Settings from the arguments given, then the environment, then the defaults. A None argument is not given.

    Raises:
        StartError: a value out of range or an unknown GANSERVE_ variable; one line that names each.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise StartError(f"unknown setting in the environment: {', '.join(unknown)}")
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        parts = (f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors())
        raise StartError("; ".join(parts)) from None
