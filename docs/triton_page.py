"""Writes docs/triton.md from the table of RPCs and the server's of config.pbtxt's fields; `--check` only compares.

python -m docs.triton_page [--check]
"""

import sys
from pathlib import Path

from docs.generated import write
from server.repository.config_fields import FIELDS, Treatment

# Each RPC of inference.GRPCInferenceService and its address over HTTP; tests/clients/test_every_rpc.py calls all.
RPCS = {
    "ServerLive": "GET /v2/health/live",
    "ServerReady": "GET /v2/health/ready",
    "ModelReady": "GET /v2/models/NAME/ready",
    "ServerMetadata": "GET /v2",
    "ModelMetadata": "GET /v2/models/NAME",
    "ModelInfer": "POST /v2/models/NAME/infer",
    "ModelStreamInfer": "",
    "ModelConfig": "GET /v2/models/NAME/config",
    "ModelStatistics": "GET /v2/models/NAME/stats",
    "RepositoryIndex": "POST /v2/repository/index",
    "RepositoryModelLoad": "POST /v2/repository/models/NAME/load",
    "RepositoryModelUnload": "POST /v2/repository/models/NAME/unload",
    "SystemSharedMemoryStatus": "GET /v2/systemsharedmemory/status",
    "SystemSharedMemoryRegister": "POST /v2/systemsharedmemory/region/NAME/register",
    "SystemSharedMemoryUnregister": "POST /v2/systemsharedmemory/region/NAME/unregister",
    "CudaSharedMemoryStatus": "GET /v2/cudasharedmemory/status",
    "CudaSharedMemoryRegister": "POST /v2/cudasharedmemory/region/NAME/register",
    "CudaSharedMemoryUnregister": "POST /v2/cudasharedmemory/region/NAME/unregister",
    "TraceSetting": "GET /v2/trace/setting",
    "LogSettings": "POST /v2/logging",
}
PAGE = Path(__file__).with_name("triton.md")
HEAD = """# In place of a Triton server

<!-- Written by `python -m docs.triton_page`, also from server/repository/config_fields.py; do not edit. -->

Clients of Triton's protocols and its model repositories (ONNX graphs, TensorRT engines) work unchanged, but for what
this page says.

## RPCs

All 20 RPCs of `inference.GRPCInferenceService` are served by both front ends (`grpcio` and `native`), and over
[HTTP](http.md):

| RPC | over HTTP |
|---|---|
(RPCS)
Exceptions, and their reasons:

| what | here |
|---|---|
| requests compressed with deflate | on `native` UNIMPLEMENTED, but for ModelStreamInfer: its library inflates gzip \
alone; `--frontend grpcio` takes both |
| compressed replies | over HTTP only, as in Triton by default: `native` has no such function, and images \
are compressed as they are |
| more than 64 KiB of metadata | RESOURCE_EXHAUSTED (Triton: 8 KiB); on `native` beyond about 1 MiB its library ends \
the call (UNKNOWN or INTERNAL), further up the connection (UNAVAILABLE) |
| image tensors with sides that a network cannot have (no multiples of 4, say), of models with a manifest | \
INVALID_ARGUMENT with the rule. Triton runs the graph, which fails, or gives another size than the input's (CycleGAN's \
ResNet at 250x250: 252x252) |
| a gRPC message of more than 16,384 fields (strings in `bytes_contents`, say) | INVALID_ARGUMENT: \
`raw_input_contents` take any number |
| TLS, `max_connection_age_s` | `grpcio` only; `--frontend auto` takes it when they are set |
| system and CUDA shared memory | off without `--shared-memory`; Status is always answered |
| CUDA shared memory | needs an NVIDIA GPU and `cuda-bindings` (of the extras `tensorrt-rtx` and `tensorrt`), else \
UNIMPLEMENTED; tensors are copied through the host |
| TraceSetting | `trace_level` OFF or TIMESTAMPS, and `trace_rate`, of all models at once; spans go to \
`otlp_endpoint`, to no file |
| LogSettings | the log goes to standard error: `log_file` is UNIMPLEMENTED; a level is written only with those \
above it |
| RepositoryIndex | a model that is READY may have a `reason`: what runs it, and what is not as it was requested |
| decoupled models, sequences | models answer each request once and keep no state; `sequence_*` is accepted and has no \
effect |
| `/generate`, `/generate_stream` over HTTP | none: they are for text |

## Clients

CI calls both front ends with tritonclient (gRPC, asyncio, HTTP, system shared memory), KServe's Python client (REST and
gRPC), gRPC for Node, grpcurl by reflection, and grpc-web through Envoy (`tests/clients`, `tests/server/api`). CUDA
shared memory is tested against a fake of `cuda-bindings`. `perf_analyzer` is run where it is on the path: its wheel
needs glibc 2.38, which Debian 12 does not have. Version 2.60.0, with Debian 13's libraries beside it, has measured both
front ends over gRPC and HTTP, with system shared memory, streams, ensembles and the response cache too.

## Exports on a Triton server

A Triton server 2.51 has accepted exported configs. For every kind of export CI reads config.pbtxt with Triton's
`model_config.proto`, as tritonclient ships it, and an unknown field fails; then it runs model.onnx in plain ONNX
Runtime, as Triton's backend does, on tensors made from that config alone: types, dims, reshape and batches agree.
Triton's backend itself is on no package index, so no test runs it.

`optional: true` marks inputs for which this server has defaults. ONNX graphs have no optional inputs, so callers of a
Triton server must send all of them.

## Status codes and answers

| situation | here | Triton |
|---|---|---|
| a model that could not be loaded is called | UNAVAILABLE, with the reason: another replica may serve it | NOT_FOUND, \
or UNAVAILABLE if the call names the version |
| a model that is being loaded is called | UNAVAILABLE: it is worth another try | NOT_FOUND, or \
UNAVAILABLE if the call names the version |
| an unloaded model is called | NOT_FOUND | NOT_FOUND, or UNAVAILABLE if the call names the version |
| a model cannot be loaded by RepositoryModelLoad | UNAVAILABLE, NOT_FOUND if there is no such folder | INTERNAL |
| the queue is full | RESOURCE_EXHAUSTED, on `grpcio` with `grpc-retry-pushback-ms` | UNAVAILABLE |
| the queue timeout passes | DEADLINE_EXCEEDED | UNAVAILABLE |
| the header of a restricted protocol is missing | PERMISSION_DENIED | UNAVAILABLE |
| a `priority` above `priority_levels` | INVALID_ARGUMENT | the default level |
| an output is requested twice | INVALID_ARGUMENT | accepted |
| JSON of a request has a field that does not exist | 400 | ignored |
| a region of shared memory is registered twice | over HTTP 409 | over HTTP 400 |
| BYTES that are not UTF-8 | INVALID_ARGUMENT: the engines take strings as text | passed to the graph |
| `--model-control explicit` without `--load-model` | loads every model at the start | loads none |
| a repository is polled | what is the same at two looks is loaded | at the first look |
| `version_policy` latest, and the newest version is not whole | the next older one serves, and the index says so | \
none serves |
| a TensorRT engine is handed over (load with `file:`) | INVALID_ARGUMENT: it is native code, so it is taken from the \
repository only | served |
| files are handed over to a server without API keys that other machines reach | PERMISSION_DENIED | served |
| files of more than `--max-override-bytes` are handed over | RESOURCE_EXHAUSTED | served |

## Ensembles

A `config.pbtxt` with `platform: "ensemble"` makes one model for tensors out of several. This one, beside the models
`faces` and `faces-srgan` of [README](../README.md#by-hand), generates faces and enlarges them:

```
platform: "ensemble"
max_batch_size: 4
input { name: "LATENT" data_type: TYPE_FP32 dims: [ 100 ] }
output { name: "LARGE_FACE" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }
ensemble_scheduling {
  step {
    model_name: "faces"
    model_version: -1
    input_map { key: "latent" value: "LATENT" }
    output_map { key: "image" value: "face" }
  }
  step {
    model_name: "faces-srgan"
    model_version: -1
    input_map { key: "image" value: "face" }
    output_map { key: "upscaled" value: "LARGE_FACE" }
  }
}
```

It is checked against its models when it is loaded, and again whenever one of them changes: it is unavailable, with the
reason in the index, while they do not fit or one is missing. Loading it loads those of its models that nobody has
loaded; `unload_dependents` unloads them with it. Each step is batched with everybody else's requests for that model;
the request is admitted at all of them before the first one works, with one deadline, and sizes and memory are counted
up to the last step ([ADR 18](adr/0018-pipelines.md)). Images go through whole, as in ModelInfer; `then` of the image
API ([HTTP](http.md#images)) cuts them into tiles.

As in Triton, an ensemble may be a step of another, inputs with a default may be left out of `input_map`, and
statistics count the request at the ensemble and at each model. Other than there:

- `model_version: 0`, which is what a step without it has, is refused: write -1.
- An ensemble needs no empty version folder: without one it is version 1.
- An ensemble whose model a client has unloaded does not keep the server from being ready.
- `reshape` and optional inputs of the ensemble itself are refused.
- `response_cache` keeps answers of the ensemble if it is set there; its models compute each step anew.

## config.pbtxt

A field that is *refused* keeps the model from loading, with a reason in the index. One of *no effect* is logged at
level warning when the model is loaded.

| field | | |
|---|---|---|
"""


def page() -> str:
    """The text of docs/triton.md."""
    rows = []
    for path, (treatment, why) in FIELDS.items():
        shown = str(treatment) if treatment is Treatment.HONOURED else f"**{treatment}**"
        rows.append(f"| `{path}` | {shown} | {why} |\n")
    rpcs = "".join(f"| {name} | {_shown(address)} |\n" for name, address in RPCS.items())
    return HEAD.replace("(RPCS)", rpcs) + "".join(rows)


def _shown(address: str) -> str:
    return f"`{address}`" if address else "none, as in Triton"


def main(arguments: list[str]) -> int:
    """See `write`."""
    return write(PAGE, page(), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
