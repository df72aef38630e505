"""KServe v2 over HTTP, as Triton speaks it: each address is an RPC of the gRPC service."""

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tritonclient.grpc import service_pb2 as pb

from server.api.infer_answer import InferAnswer
from server.api.quotas import uncharge_request
from server.api.rest.call import BINARY, JSON, HttpContext, Reply, read_json, to_json
from server.api.rest.compression import compressed
from server.api.rest.endpoint import LARGE_BYTES, Endpoint
from server.api.rest.fields import check_length, check_text, read_base64, set_choice
from server.api.rest.tensors import LENGTH_HEADER, read_header_length, read_raw_request, read_request, write_answer
from server.errors import InvalidRequest

Read = Callable[[Request, dict[str, Any]], Any]
"""The message for a request and the JSON of its body."""
Show = Callable[[Any], Any]
"""What the reply has of an answer, as JSON."""


class V2:
    """The addresses below /v2."""

    def __init__(self, endpoint: Endpoint, methods: Any) -> None:
        """`methods`: of the gRPC service `inference.GRPCInferenceService`, as `Calls` wraps them."""
        self._endpoint = endpoint
        self._methods = methods

    def routes(self) -> list[Route]:
        """All of them."""
        routes = [
            self._ready("/v2/health/live", "ServerLive", pb.ServerLiveRequest, 503),
            self._ready("/v2/health/ready", "ServerReady", pb.ServerReadyRequest, 503),
            self._json("GET", "/v2", "ServerMetadata", _message(pb.ServerMetadataRequest)),
            self._json("GET", "/v2/models/stats", "ModelStatistics", _message(pb.ModelStatisticsRequest)),
            self._json("POST", "/v2/repository/index", "RepositoryIndex", _read_index, lambda a: to_json(a)["models"]),
            self._json("POST", "/v2/repository/models/{model}/load", "RepositoryModelLoad", _read_load),
            self._json("POST", "/v2/repository/models/{model}/unload", "RepositoryModelUnload", _read_unload),
            *self._shared_memory("systemsharedmemory", "SystemSharedMemory", _read_system_region),
            *self._shared_memory("cudasharedmemory", "CudaSharedMemory", _read_cuda_region),
        ]
        for address, rpc, read in (
            ("/v2/trace/setting", "TraceSetting", _read_trace),
            ("/v2/models/{model}/trace/setting", "TraceSetting", _read_trace),
            ("/v2/logging", "LogSettings", _read_log),
        ):
            routes += [self._json(verb, address, rpc, read, _show_settings) for verb in ("GET", "POST")]
        for start in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes += [
                self._json("GET", start, "ModelMetadata", _message(pb.ModelMetadataRequest)),
                self._json("GET", f"{start}/config", "ModelConfig", _message(pb.ModelConfigRequest), _show_config),
                self._json("GET", f"{start}/stats", "ModelStatistics", _message(pb.ModelStatisticsRequest)),
                self._ready(f"{start}/ready", "ModelReady", pb.ModelReadyRequest, 400),
                Route(f"{start}/infer", self._infer, methods=["POST"]),
            ]
        return routes

    def _json(self, verb: str, address: str, rpc: str, read: Read, show: Show = to_json) -> Route:
        """An address whose body, if any, and reply are JSON."""

        async def answer(request: Request) -> Response:
            def read_message(body: bytes) -> Any:
                return read(request, read_json(body, self._endpoint.max_bytes))

            async def write(answer: Any, context: HttpContext) -> Response:
                return Reply([orjson.dumps(show(answer))], JSON, context)

            reading = self._endpoint.reading(read_message)
            return await self._endpoint.answer(request, getattr(self._methods, rpc), reading, write)

        return Route(address, answer, methods=[verb])

    def _ready(self, address: str, rpc: str, kind: Any, otherwise: int) -> Route:
        """An address that answers by its code: 200, or `otherwise`. KServe's client reads the body as well."""

        async def answer(request: Request) -> Response:
            async def read(body: bytes, context: HttpContext) -> Any:
                return _message(kind)(request, {})

            async def write(answer: Any, context: HttpContext) -> Response:
                named = {"name": request.path_params["model"]} if rpc == "ModelReady" else {}
                reply = Reply([orjson.dumps({**named, **to_json(answer)})], JSON, context)
                is_so = answer.live if rpc == "ServerLive" else answer.ready
                reply.status_code = 200 if is_so else otherwise
                return reply

            return await self._endpoint.answer(request, getattr(self._methods, rpc), read, write)

        return Route(address, answer, methods=["GET"])

    def _shared_memory(self, kind: str, rpc: str, read: Read) -> list[Route]:
        """The addresses of regions of system or CUDA shared memory."""
        status = _message(getattr(pb, f"{rpc}StatusRequest"))
        unregister = _message(getattr(pb, f"{rpc}UnregisterRequest"))

        def regions(answer: Any) -> Any:
            return list(to_json(answer)["regions"].values())

        found = []
        for start in (f"/v2/{kind}", f"/v2/{kind}/region/{{name}}"):
            found.append(self._json("GET", f"{start}/status", f"{rpc}Status", status, regions))
            found.append(self._json("POST", f"{start}/unregister", f"{rpc}Unregister", unregister))
        return [*found, self._json("POST", f"/v2/{kind}/region/{{name}}/register", f"{rpc}Register", read)]

    async def _infer(self, request: Request) -> Response:
        name, version = request.path_params["model"], request.path_params.get("version", "")
        workers, forms = self._endpoint.workers, []

        async def read(body: bytes, context: HttpContext) -> Any:
            length = read_header_length(request.headers.get(LENGTH_HEADER), body)
            if length == 0 and body:
                wanted = pb.ModelMetadataRequest(name=name, version=version)
                metadata = await self._methods.ModelMetadata(wanted, context)  # checks the caller, as any call
                uncharge_request()  # ModelInfer is counted
                message, form = read_raw_request(body, metadata.inputs, name, version)
            else:
                arguments = (body, length, name, version, self._endpoint.max_bytes)
                is_large = (len(body) if length is None else length) > LARGE_BYTES
                message, form = await workers.run_if(is_large, read_request, *arguments)
            forms.append(form)
            return message

        async def write(answer: InferAnswer, context: HttpContext) -> Response:
            is_large = sum(map(len, answer.raws)) > LARGE_BYTES
            parts, headers = await workers.run_if(is_large, write_answer, answer, forms[0], self._endpoint.max_bytes)
            media_type = BINARY if headers else JSON
            return await compressed(parts, media_type, headers, request, context, workers)

        return await self._endpoint.answer(request, self._methods.ModelInfer, read, write)


def _message(kind: Any) -> Read:
    """A message of that kind with what the address names."""

    def read(request: Request, body: dict[str, Any]) -> Any:
        _check_empty(body)
        names = {field.name for field in kind.DESCRIPTOR.fields}
        given = {("name" if key == "model" else key): value for key, value in request.path_params.items()}
        return kind(**{key: value for key, value in given.items() if key in names})

    return read


def _read_index(request: Request, body: dict[str, Any]) -> Any:
    ready = body.pop("ready", False)
    _check_empty(body)
    if not isinstance(ready, bool):
        raise InvalidRequest(f"ready: must be true or false, got {reprlib.repr(ready)}")
    return pb.RepositoryIndexRequest(ready=ready)


def _read_load(request: Request, body: dict[str, Any]) -> Any:
    """Parameters are `config`, a text of JSON, and `file:<path>`, bytes in base64."""
    message = pb.RepositoryModelLoadRequest(model_name=request.path_params["model"])
    for key, value in _parameters(body).items():
        check_length("name of a parameter", key)
        if key.startswith("file:"):
            message.parameters[key].bytes_param = read_base64(f"parameter {key!r}", value)
        else:
            set_choice(message.parameters[key], f"parameter {key!r}", value)
    return message


def _read_unload(request: Request, body: dict[str, Any]) -> Any:
    message = pb.RepositoryModelUnloadRequest(model_name=request.path_params["model"])
    for key, value in _parameters(body).items():
        check_length("name of a parameter", key)
        set_choice(message.parameters[key], f"parameter {key!r}", value)
    return message


def _read_system_region(request: Request, body: dict[str, Any]) -> Any:
    key, offset, nbytes = body.pop("key", None), body.pop("offset", 0), body.pop("byte_size", None)
    _check_empty(body)
    sizes = {"offset": _size("offset", offset), "byte_size": _size("byte_size", nbytes)}
    return pb.SystemSharedMemoryRegisterRequest(name=request.path_params["name"], key=check_text("key", key), **sizes)


def _read_cuda_region(request: Request, body: dict[str, Any]) -> Any:
    handle, device, nbytes = body.pop("raw_handle", None), body.pop("device_id", 0), body.pop("byte_size", None)
    _check_empty(body)
    if not isinstance(handle, dict) or set(handle) != {"b64"}:
        raise InvalidRequest('raw_handle: must be {"b64": the handle in base64}')
    return pb.CudaSharedMemoryRegisterRequest(
        name=request.path_params["name"],
        raw_handle=read_base64("raw_handle", handle["b64"]),
        device_id=_size("device_id", device, (1 << 31) - 1),
        byte_size=_size("byte_size", nbytes),
    )


def _read_trace(request: Request, body: dict[str, Any]) -> Any:
    """Each setting is a string or an array of them; null resets it."""
    message = pb.TraceSettingRequest(model_name=request.path_params.get("model", ""))
    for key, value in body.items():
        values = [] if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in values):
            raise InvalidRequest(f"{key}: must be a string or an array of strings, got {reprlib.repr(value)}")
        message.settings[key].value.extend(values)
    return message


def _read_log(request: Request, body: dict[str, Any]) -> Any:
    message = pb.LogSettingsRequest()
    for key, value in body.items():
        set_choice(message.settings[key], key, value)
    return message


def _show_config(answer: Any) -> Any:
    return to_json(answer.config)


def _show_settings(answer: Any) -> Any:
    """Settings of traces and of the log: one value as itself, trace levels as an array, as Triton writes them."""
    found: dict[str, Any] = {}
    for key, setting in answer.settings.items():
        if "value" not in setting.DESCRIPTOR.fields_by_name:
            found[key] = getattr(setting, setting.WhichOneof("parameter_choice") or "", None)
        elif key == "trace_level":
            found[key] = list(setting.value)
        else:
            found[key] = setting.value[0] if setting.value else ""
    return found


def _parameters(body: dict[str, Any]) -> Mapping[str, Any]:
    parameters = body.pop("parameters", {})
    _check_empty(body)
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"parameters: must be an object, got {reprlib.repr(parameters)}")
    return parameters


def _size(field: str, value: Any, highest: int = (1 << 63) - 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        raise InvalidRequest(f"{field}: must be a number from 0 to {highest}, got {reprlib.repr(value)}")
    return value


def _check_empty(body: Mapping[str, Any]) -> None:
    for key in body:
        raise InvalidRequest(f"unknown field {key[:100]!r}")
