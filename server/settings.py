"""Every setting of the server: its type, default, limits and help."""

import os
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "GANSERVE_"


class Panel(StrEnum):
    """Groups of settings in the command's help and in the documentation."""

    MODELS = "Models"
    NETWORK = "Network"
    ACCESS = "Access"
    ENGINES = "Engines"
    LIMITS = "Queue and limits"
    IMAGES = "Images"
    SHUTDOWN = "Shutdown"
    OBSERVABILITY = "Observability"


class Unset(str):
    """What a setting means that is None."""


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
    """Settings of the server. The options and help of `ganserve serve` and docs/settings.md are made from them."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    repository: Annotated[Path, Panel.MODELS] = Field(description="Model repository to serve.")
    model_control: Annotated[Literal["none", "poll", "explicit"], Panel.MODELS] = Field(
        "none",
        description="What becomes of changes on disk after the start. none: nothing; poll: they are found and loaded; "
        "explicit: clients load and unload models.",
    )
    repository_poll_s: Annotated[float, Panel.MODELS] = Field(
        15.0,
        gt=0,
        description="With poll: time between two looks at the repository. What is the same at two looks is loaded.",
    )
    load_model: Annotated[str, Panel.MODELS] = Field(
        "*",
        description="With explicit: models to load at the start, separated by commas; *: every model; empty: none.",
    )
    strict_readiness: Annotated[bool, Panel.MODELS] = Field(
        True, description="Whether the server is ready only if every model serves; if not, as soon as one does."
    )
    model_config_name: Annotated[str | None, Panel.MODELS, Unset("config.pbtxt")] = Field(
        None,
        pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        description="A model whose folder has configs/NAME.pbtxt is served by that in place of config.pbtxt.",
    )
    max_override_bytes: Annotated[int, Panel.MODELS] = Field(
        1 << 30,
        ge=0,
        description="With explicit: maximum bytes of the files that clients hand over in load requests, of all models "
        "that load or serve from them, 1 MiB each at least. 0: none are taken.",
    )
    warmup_s: Annotated[float, Panel.MODELS] = Field(
        30.0,
        ge=0,
        description="Time for runs of a model before it is ready; batch sizes that are left run first in a request. "
        "Measuring the CPU's engines takes half as long again at most, once.",
    )

    server_name: Annotated[str, Panel.NETWORK] = Field(
        "ganserve", min_length=1, description="Name in the answer to ServerMetadata; Triton's option is --id."
    )
    host: Annotated[str | None, Panel.NETWORK, Unset("127.0.0.1, with api_keys 0.0.0.0")] = Field(
        None, description="Address to listen on. 0.0.0.0: every network of this machine."
    )
    grpc_port: Annotated[int, Panel.NETWORK] = Field(8001, ge=0, le=65535, description="gRPC port; 0: any free port.")
    http_port: Annotated[int, Panel.NETWORK] = Field(
        8002, ge=0, le=65535, description="Port of /livez, /readyz and /metrics; 0: any free port."
    )
    rest_port: Annotated[int | None, Panel.NETWORK, Unset("8000, or any free port if grpc_port is 0")] = Field(
        None, ge=-1, le=65535, description="Port of the HTTP API (KServe v2 and images); 0: any free port, -1: none."
    )
    page: Annotated[bool, Panel.NETWORK] = Field(True, description="The HTTP API has a page at / to try the models on.")
    frontend: Annotated[Literal["auto", "native", "grpcio"], Panel.NETWORK] = Field(
        "auto",
        description="HTTP/2 implementation. auto: native if it is installed, supports the other settings and only this "
        "machine reaches the server, else grpcio. native rejects requests compressed with deflate.",
    )
    max_connection_age_s: Annotated[float, Panel.NETWORK] = Field(
        300.0,
        ge=0,
        description="Connections take no new calls after this time, +-10 %, and close when those in flight have ended; "
        "0: never. Only with grpcio.",
    )

    tls_certificate: Annotated[Path | None, Panel.ACCESS, Unset("no TLS")] = Field(
        None, description="PEM certificate chain of gRPC and HTTP API; read again when it changes. Only with grpcio."
    )
    tls_key: Annotated[Path | None, Panel.ACCESS, Unset("no TLS")] = Field(
        None, description="PEM private key of the certificate. Only with grpcio."
    )
    tls_client_ca: Annotated[Path | None, Panel.ACCESS, Unset("clients need no certificate")] = Field(
        None, description="PEM certificates of the authorities that sign clients' certificates (mTLS)."
    )
    api_keys: Annotated[Path | None, Panel.ACCESS, Unset("no keys are needed")] = Field(
        None, description="TOML file of the API keys, with roles and quotas; read again when it changes."
    )
    shared_memory: Annotated[bool, Panel.ACCESS] = Field(
        False,
        description="Whether clients on this machine may pass tensors in system and CUDA shared memory. They can then "
        "read and write every segment in /dev/shm that the server's user may.",
    )
    grpc_restricted_protocol: Annotated[str | None, Panel.ACCESS, Unset("no restriction")] = Field(
        None,
        description="Groups of RPCs that need a header, as in Triton: GROUP,GROUP:NAME=VALUE needs triton-grpc-"
        "protocol-NAME: VALUE. Several are separated by spaces. Set it in the environment: other users see options.",
    )

    device: Annotated[str, BeforeValidator(_device), Panel.ENGINES] = Field(
        "auto", description="Where models run: auto, cpu, cuda or cuda:N."
    )
    engine: Annotated[Literal["auto", "onnx", "openvino", "onnx-tensorrt", "tensorrt"], Panel.ENGINES] = Field(
        "auto",
        description="auto: on a GPU model.plan, else model.onnx, on the CPU what is measured; onnx: ONNX Runtime; "
        "openvino: OpenVINO, on the CPU; onnx-tensorrt: ONNX Runtime's TensorRT provider; tensorrt: always model.plan.",
    )
    cpu_precision: Annotated[Literal["auto", "fp32", "bf16"], Panel.ENGINES] = Field(
        "auto", description="On the CPU. bf16: in OpenVINO, with AVX512-BF16 or AMX; auto: if it is faster and near."
    )
    engine_cache: Annotated[Path | None, Panel.ENGINES, Unset("the user's cache folder")] = Field(
        None,
        description="Folder for what TensorRT compiles for the local GPU, and for what the CPU's engines measured.",
    )
    conv_search: Annotated[Literal["auto", "heuristic", "exhaustive", "default"], Panel.ENGINES] = Field(
        "auto", description="How ONNX Runtime has cuDNN choose convolution algorithms."
    )
    gpu_memory_bytes: Annotated[int | None, Panel.ENGINES, Unset("no limit")] = Field(
        None, ge=1 << 20, description="Maximum GPU memory of one ONNX Runtime session."
    )
    threads: Annotated[int | None, Panel.ENGINES, Unset("every core")] = Field(
        None, ge=1, description="CPU threads for inference."
    )
    hang_timeout_s: Annotated[float, Panel.ENGINES] = Field(
        120.0,
        ge=0,
        description="A batch that runs longer than this, and than 20 times its estimate, hangs: the server is not "
        "ready, then not live. An event loop that does not answer for so long ends the process. 0: never.",
    )

    max_queue_rows: Annotated[int, Panel.LIMITS] = Field(
        16384, ge=1, description="Maximum items (images or tiles) that wait, per model."
    )
    max_queue_bytes: Annotated[int, Panel.LIMITS] = Field(
        2 << 30, ge=1, description="Maximum bytes of the items that wait, per model."
    )
    queue_target_s: Annotated[float, Panel.LIMITS] = Field(
        0.25,
        ge=0,
        description="Requests without a deadline are rejected while they would take longer than this, or than five "
        "times their own computing time if that is more. 0: never.",
    )
    max_images_per_call: Annotated[int, Panel.LIMITS] = Field(
        4096, ge=1, description="Maximum number of images of one Generate call."
    )
    max_message_bytes: Annotated[int, Panel.LIMITS] = Field(
        256 << 20,
        ge=1 << 16,
        le=(1 << 31) - 1,
        description="Maximum size of a gRPC message or an HTTP body, as sent and once it is read.",
    )
    message_timeout_s: Annotated[float, Panel.LIMITS] = Field(
        60.0, gt=0, description="Maximum time for a message to arrive. With grpcio, and of the HTTP API."
    )
    max_slow_messages: Annotated[int, Panel.LIMITS] = Field(
        16,
        ge=1,
        description="Maximum number of messages that take longer than a second to arrive; beyond, the slowest is "
        "rejected. Each may hold max_message_bytes. Only with grpcio.",
    )
    max_connections: Annotated[int, Panel.LIMITS] = Field(
        4096,
        ge=1,
        description="Maximum number of open gRPC connections. Fewer if the process may not open so many files.",
    )
    max_http_connections: Annotated[int, Panel.LIMITS] = Field(
        1024,
        ge=1,
        description="Maximum number of open connections of the HTTP API; a new one replaces the one that was silent "
        "longest. Fewer if the process may not open so many files.",
    )
    max_calls_per_connection: Annotated[int, Panel.LIMITS] = Field(
        1024, ge=1, description="Maximum number of open calls of one connection; further ones wait in the client."
    )
    max_streams: Annotated[int, Panel.LIMITS] = Field(
        256, ge=1, description="Maximum number of open GenerateStream, UpscaleStream and ModelStreamInfer calls."
    )
    stream_idle_s: Annotated[float, Panel.LIMITS] = Field(
        60.0,
        gt=0,
        description="A stream whose client takes no message for so long is ended; so is a connection with a reply that"
        " was not read for so long, and 1 s for each MiB, while memory is short (max_held_bytes).",
    )
    response_cache_bytes: Annotated[int, Panel.LIMITS] = Field(
        64 << 20,
        ge=0,
        description="Maximum memory of answers kept for equal requests: images at addresses, tensors of models with "
        "`response_cache { enable: true }`; 0: none.",
    )
    max_held_bytes: Annotated[int, Panel.LIMITS] = Field(
        2 << 30,
        ge=1,
        description="Maximum memory that all calls together hold for images, results and replies. A call that needs "
        "more is accepted while there is no other.",
    )

    max_image_px: Annotated[int, Panel.IMAGES] = Field(
        64_000_000, ge=1, description="Maximum pixels of an image, both of the input and of the output."
    )
    max_whole_px: Annotated[int, Panel.IMAGES] = Field(
        4_194_304,
        ge=1,
        description="Maximum pixels of an image, after padding, that a network processes in one piece (translators).",
    )
    max_metadata_bytes: Annotated[int, Panel.IMAGES] = Field(
        4 << 20, ge=0, description="Maximum EXIF, XMP, IPTC and texts of an image whose metadata are kept."
    )
    mark: Annotated[Literal["none", "xmp", "c2pa"], Panel.IMAGES] = Field(
        "none",
        description="How images say that a network made them; a model's parameter `mark` goes before it. xmp: IPTC's "
        "digital source type; c2pa: also a signed manifest.",
    )
    c2pa_certificate: Annotated[Path | None, Panel.IMAGES, Unset("nothing is signed")] = Field(
        None, description="PEM chain of the certificate that images are signed with; read again when it changes."
    )
    c2pa_key: Annotated[Path | None, Panel.IMAGES, Unset("nothing is signed")] = Field(
        None, description="PEM private key of that certificate."
    )
    codec_threads: Annotated[int | None, Panel.IMAGES, Unset("every core")] = Field(
        None, ge=1, description="Threads that decode and encode images; up to twice as many while clients wait."
    )
    codec_timeout_s: Annotated[float, Panel.IMAGES] = Field(
        30.0, gt=0, description="Maximum time to decode or encode one image, without the wait for a thread."
    )

    shutdown_delay_s: Annotated[float, Panel.SHUTDOWN] = Field(
        3.0, ge=0, description="After SIGTERM: how long the server is not ready but still accepts requests."
    )
    drain_s: Annotated[float, Panel.SHUTDOWN] = Field(30.0, ge=0, description="Then: how long accepted ones may take.")

    otlp_endpoint: Annotated[str | None, BeforeValidator(_url), Panel.OBSERVABILITY, Unset("no tracing")] = Field(
        None, description="OpenTelemetry collector for traces (OTLP over gRPC), such as http://collector:4317."
    )
    trace_ratio: Annotated[float, Panel.OBSERVABILITY] = Field(
        1.0, ge=0, le=1, description="Share of requests to trace if the caller did not decide."
    )
    watch_images_per_s: Annotated[float, Panel.OBSERVABILITY] = Field(
        10.0,
        ge=0,
        description="Images of each model that are looked at for the metrics of drift, a second on average; 0: none.",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Panel.OBSERVABILITY] = Field(
        "info", description="Lowest level to log."
    )
    log_format: Annotated[Literal["text", "json"], Panel.OBSERVABILITY] = Field(
        "text", description="Log lines as text for people or as JSON for machines."
    )

    @property
    def address(self) -> str:
        """`host`, or its default: other machines reach a server only if that was asked for, or if callers need keys."""
        return self.host or ("127.0.0.1" if self.api_keys is None else "0.0.0.0")

    @property
    def is_guarded(self) -> bool:
        """Whether nobody reaches the server but this machine, or callers with API keys."""
        return self.api_keys is not None or is_loopback(self.address)

    @property
    def models_to_load(self) -> frozenset[str] | None:
        """The names of the models to load at the start; None: every model."""
        if self.model_control != "explicit" or self.load_model == "*":
            return None
        return frozenset(name for part in self.load_model.split(",") if (name := part.strip()))

    @property
    def api_port(self) -> int:
        """`rest_port`, or its default, which is Triton's. Who takes any free port for gRPC starts several servers."""
        return self.rest_port if self.rest_port is not None else 8000 if self.grpc_port else 0

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


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches a server that listens on the address."""
    return address in ("localhost", "::1", "[::1]") or address.startswith("127.")
