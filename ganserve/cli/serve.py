"""`ganserve serve`: a server in the foreground until SIGTERM or Ctrl-C."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ganserve.cli.output import CommandError, needing

if TYPE_CHECKING:
    from server.app import Serving
    from server.settings import Settings


def _option(help: str, metavar: str | None = None) -> Any:
    return typer.Option(help=help, metavar=metavar, show_default=False)


Engine = Annotated[str | None, _option("What runs models on a GPU (default auto).", "auto|onnx|onnx-tensorrt|tensorrt")]
EngineCache = Annotated[
    Path | None, _option("Where engines that TensorRT builds here are kept (default the user's cache).", "DIR")
]
ConvSearch = Annotated[
    str | None, _option("How cuDNN chooses convolutions (default auto).", "auto|heuristic|exhaustive|default")
]

MaxWholePx = Annotated[int | None, _option("Pixels of a picture that a network takes in one piece (default 4194304).")]
OtlpEndpoint = Annotated[
    str | None, _option("Collector that takes traces, http://host:4317 (default no tracing).", "URL")
]


# One option for each field of server.settings.Settings. None is "not given": then GANSERVE_<NAME> counts, then the
# default, which the help names.
def serve(
    repository: Annotated[Path | None, _option("Model repository to serve.", "DIR")] = None,
    host: Annotated[str | None, _option("Address to listen on (default 0.0.0.0).")] = None,
    grpc_port: Annotated[int | None, _option("gRPC port; 0 takes a free one (default 8001).")] = None,
    http_port: Annotated[
        int | None, _option("Port of /livez, /readyz, /metrics; 0 takes a free one (default 8002).")
    ] = None,
    frontend: Annotated[str | None, _option("What speaks HTTP/2 (default auto).", "auto|native|grpcio")] = None,
    device: Annotated[str | None, _option("Where models run (default auto).", "auto|cpu|cuda[:N]")] = None,
    engine: Engine = None,
    engine_cache: EngineCache = None,
    conv_search: ConvSearch = None,
    gpu_memory_bytes: Annotated[int | None, _option("GPU memory that one ONNX Runtime session may take.")] = None,
    threads: Annotated[int | None, _option("CPU threads for inference (default every core).")] = None,
    codec_threads: Annotated[int | None, _option("Threads that decode and encode (default every core).")] = None,
    model_control: Annotated[
        str | None, _option("Whether clients may load models (default explicit).", "explicit|none")
    ] = None,
    max_message_bytes: Annotated[int | None, _option("Largest gRPC message (default 268435456).")] = None,
    max_queue_rows: Annotated[int | None, _option("Images or tiles that may wait, per model (default 16384).")] = None,
    max_queue_bytes: Annotated[int | None, _option("Bytes that may wait, per model (default 2147483648).")] = None,
    max_images_per_call: Annotated[int | None, _option("Images that one call may ask for (default 4096).")] = None,
    max_image_px: Annotated[int | None, _option("Pixels of a picture, sent or made (default 64000000).")] = None,
    max_whole_px: MaxWholePx = None,
    shutdown_delay_s: Annotated[float | None, _option("After SIGTERM: not ready, still serving (default 3.0).")] = None,
    drain_s: Annotated[float | None, _option("Then: longest wait for accepted requests (default 30.0).")] = None,
    max_connection_age_s: Annotated[
        float | None, _option("Connections end after this (default 300.0), 0: never; grpcio only.")
    ] = None,
    tls_certificate: Annotated[Path | None, _option("PEM certificate chain; grpcio only.", "FILE")] = None,
    tls_key: Annotated[Path | None, _option("PEM private key; grpcio only.", "FILE")] = None,
    otlp_endpoint: OtlpEndpoint = None,
    trace_ratio: Annotated[float | None, _option("Share of requests to trace (default 1.0).")] = None,
    log_level: Annotated[str | None, _option("Least severe line (default info).", "debug|info|warning|error")] = None,
    log_format: Annotated[str | None, _option("For people or machines (default text).", "text|json")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ready line as JSON.")] = False,
) -> None:
    """Serves a model repository over gRPC. Every option can also be set as GANSERVE_<NAME> in the environment."""
    given = dict(locals())
    del given["as_json"]
    with needing("cpu"):
        from server.app import serve as run
        from server.errors import StartError
        from server.settings import read_settings
    try:
        settings = read_settings(**given)
        asyncio.run(run(settings, lambda serving: _announce(settings, serving, as_json)))
    except StartError as error:
        raise CommandError(str(error)) from None


def _announce(settings: "Settings", serving: "Serving", as_json: bool) -> None:
    """The one line on stdout that says the server is ready."""
    if as_json:
        print(json.dumps(asdict(serving)), flush=True)
        return
    missing = f", {serving.unavailable} unavailable" if serving.unavailable else ""
    print(
        f"ready: gRPC {settings.host}:{serving.grpc_port} ({serving.frontend}), "
        f"HTTP {settings.host}:{serving.http_port}, device {serving.device}, "
        f"{serving.models} models{missing} from {settings.repository}",
        flush=True,
    )
