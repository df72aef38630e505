"""KServe v2 over gRPC, as Triton speaks it: tensors in and out, metadata, statistics, model control."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

from tritonclient.grpc import service_pb2, service_pb2_grpc

from server.api.calls import Context, deadline, hold_of, hold_until_read
from server.api.classification import NO_COUNTS, classified, read_counts
from server.api.infer_answer import InferAnswer, PendingAnswer, StreamAnswer
from server.api.kept_answers import KeptAnswers
from server.api.kserve_parameters import NOT_STATED, check_kind, read_load_parameters, read_queueing
from server.api.kserve_run import plan, run, take
from server.api.kserve_statistics import write_statistics
from server.api.kserve_tensors import (
    NO_PLACES,
    are_large,
    check_outputs,
    find_places,
    is_large,
    is_large_answer,
    read_inputs,
    write_outputs,
)
from server.api.limits import Limits
from server.api.quotas import charge_message
from server.api.regions import CudaRegion, SystemRegion
from server.api.remote_settings import RemoteSettings
from server.api.response_cache import ResponseCache
from server.api.shared_memory import SharedMemory
from server.engines.strings import held_bytes
from server.errors import (
    AccessError,
    GanserveError,
    InvalidRequest,
    ModelNotFound,
    NotServing,
    PermissionDenied,
    Unsupported,
)
from server.images.memory import Hold, MemoryBudget
from server.images.workers import Workers
from server.repository.declared import DeclaredTensor
from server.repository.index import IndexEntry, State
from server.repository.model import Model
from server.repository.override import read_override
from server.repository.repository import Repository
from server.settings import Settings

EXTENSIONS = (
    "classification", "model_repository", "model_repository(unload_dependents)", "schedule_policy",
    "model_configuration", "system_shared_memory", "cuda_shared_memory", "binary_tensor_data", "statistics", "trace",
    "logging",
)  # fmt: skip
# Answers of one stream that may be computed ahead of the one that is sent next.
STREAM_WINDOW = 64


class InferenceService(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The service `inference.GRPCInferenceService`. What it raises becomes a status in `calls`."""

    def __init__(
        self,
        repository: Repository,
        settings: Settings,
        version: str,
        is_ready: Callable[[], bool],
        stopping: asyncio.Event,
        workers: Workers,
        budget: MemoryBudget,
        remote: RemoteSettings,
        answers: KeptAnswers,
    ) -> None:
        self._repository = repository
        self._settings = settings
        self._limits = Limits.of(settings)
        self._workers = workers
        self._budget = budget
        self._version = version
        self._is_ready = is_ready
        self._stopping = stopping
        self._remote = remote
        self._cache = ResponseCache(answers, workers)
        self._memory = SharedMemory(settings.shared_memory)

    async def ServerLive(self, request: Any, context: Context) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Context) -> Any:
        return service_pb2.ServerReadyResponse(ready=self._is_ready())

    async def ModelReady(self, request: Any, context: Context) -> Any:
        try:
            self._repository.get(request.name, request.version)
        except (ModelNotFound, NotServing):
            return service_pb2.ModelReadyResponse(ready=False)
        return service_pb2.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: Any, context: Context) -> Any:
        return service_pb2.ServerMetadataResponse(
            name=self._settings.server_name, version=self._version, extensions=EXTENSIONS
        )

    async def ModelMetadata(self, request: Any, context: Context) -> Any:
        model = self._repository.get(request.name, request.version)
        ready = [entry.version for entry in self._entries(request.name) if entry.state is State.READY]
        answer = service_pb2.ModelMetadataResponse(
            name=model.name,
            versions=[request.version] if request.version else [str(version) for version in ready],
            platform=model.config.platform,
        )
        batch = [-1] if model.max_batch_size else []
        for field, tensors in ((answer.inputs, model.inputs), (answer.outputs, model.outputs)):
            for tensor in tensors:
                field.add(name=tensor.name, datatype=tensor.dtype, shape=[*batch, *tensor.dims])
        return answer

    async def ModelConfig(self, request: Any, context: Context) -> Any:
        return service_pb2.ModelConfigResponse(config=self._repository.get(request.name, request.version).config)

    async def ModelInfer(self, request: Any, context: Context) -> Any:
        answer, hold = InferAnswer(), hold_of(context, self._budget)
        try:
            await self._infer(request, deadline(context), hold, answer)
            return answer
        finally:
            if hold.nbytes:
                hold_until_read(context, hold)

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        """Answers in the order of the requests, computing up to STREAM_WINDOW of them at once.

        Raises:
            NotServing: the server is stopping; STREAM_WINDOW of the requests that were read have their answers.
        """
        as_status = ("triton_grpc_error", "true") in {
            (key, value) for key, value in context.invocation_metadata() or ()
        }
        answers: asyncio.Queue[PendingAnswer | None] = asyncio.Queue(STREAM_WINDOW)

        async def read() -> None:
            try:
                async for request in requests:
                    if isinstance(request, GanserveError):  # refused before it was read
                        raise request
                    hold = Hold(self._budget)
                    task = asyncio.create_task(self._stream_answer(request, deadline(context), as_status, hold))
                    answer = PendingAnswer(task, hold)
                    try:
                        await answers.put(answer)
                    except asyncio.CancelledError:
                        answer.drop()
                        raise
            finally:
                await answers.put(None)

        async def end() -> None:
            await self._stopping.wait()
            reader.cancel()

        reader, ender = asyncio.create_task(read()), asyncio.create_task(end())
        try:
            while (answer := await answers.get()) is not None:
                try:
                    yield await answer.task
                finally:
                    answer.drop()
            await asyncio.wait({reader})
            if reader.cancelled():
                raise NotServing("the server is stopping; try another one")
            await reader
        finally:
            ender.cancel()
            reader.cancel()
            while not answers.empty():
                left = answers.get_nowait()
                if left is not None:
                    left.drop()

    async def ModelStatistics(self, request: Any, context: Context) -> Any:
        models = list(self._repository.ready())
        if request.name:
            try:
                wanted = self._repository.get(request.name, request.version)
            except GanserveError as error:
                text = f"requested model version is not available for model {request.name!r}"
                raise InvalidRequest(f"{text}: {error}") from error
            models = [m for m in models if m.name == request.name and (not request.version or m is wanted)]
        answer = service_pb2.ModelStatisticsResponse()
        for model in models:
            write_statistics(model.statistics, answer.model_stats.add())
        return answer

    async def RepositoryIndex(self, request: Any, context: Context) -> Any:
        _check_repository(request.repository_name)
        answer = service_pb2.RepositoryIndexResponse()
        for entry in self._repository.index():
            if entry.state is State.READY or not request.ready:
                version = str(entry.version) if entry.version else ""
                answer.models.add(name=entry.name, version=version, state=entry.state, reason=entry.said)
        if not request.ready:
            for name in await self._repository.unread():
                answer.models.add(name=name)  # as Triton shows a model on disk that nobody has loaded
        return answer

    async def RepositoryModelLoad(self, request: Any, context: Context) -> Any:
        self._check_control(request)
        override = None
        if request.parameters:
            config, files = read_load_parameters(request.parameters)
            if files and not self._settings.is_guarded:
                text = "files are taken only with API keys (role control), or if the server listens on loopback alone"
                raise PermissionDenied(text)
            override = await asyncio.to_thread(read_override, request.model_name, config, files)
        await self._repository.load(request.model_name, override)
        return service_pb2.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Context) -> Any:
        self._check_control(request)
        for key in request.parameters:
            if key != "unload_dependents":
                raise InvalidRequest(f"unknown unload parameter {key!r}")
            check_kind(key, request.parameters[key], "bool_param")
        await self._repository.unload(request.model_name, request.parameters["unload_dependents"].bool_param)
        return service_pb2.RepositoryModelUnloadResponse()

    async def SystemSharedMemoryStatus(self, request: Any, context: Context) -> Any:
        answer = service_pb2.SystemSharedMemoryStatusResponse()
        for region in self._memory.status(SystemRegion, request.name):
            found = answer.regions[region.name]
            found.name, found.key = region.name, region.key
            found.offset, found.byte_size = region.offset, region.byte_size
        return answer

    async def SystemSharedMemoryRegister(self, request: Any, context: Context) -> Any:
        self._memory.register_system(request.name, request.key, request.offset, request.byte_size)
        return service_pb2.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(self, request: Any, context: Context) -> Any:
        self._memory.unregister(SystemRegion, request.name)
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(self, request: Any, context: Context) -> Any:
        answer = service_pb2.CudaSharedMemoryStatusResponse()
        for region in self._memory.status(CudaRegion, request.name):
            found = answer.regions[region.name]
            found.name, found.device_id, found.byte_size = region.name, region.device, region.byte_size
        return answer

    async def CudaSharedMemoryRegister(self, request: Any, context: Context) -> Any:
        self._memory.check_new(request.name)
        opening = (CudaRegion, request.name, request.raw_handle, request.device_id, request.byte_size)
        self._memory.add(await self._workers.run(*opening))
        return service_pb2.CudaSharedMemoryRegisterResponse()

    async def CudaSharedMemoryUnregister(self, request: Any, context: Context) -> Any:
        self._memory.unregister(CudaRegion, request.name)
        return service_pb2.CudaSharedMemoryUnregisterResponse()

    async def TraceSetting(self, request: Any, context: Context) -> Any:
        if request.model_name:
            self._repository.get(request.model_name, "")
        self._remote.change_trace(request.model_name, {key: setting.value for key, setting in request.settings.items()})
        answer = service_pb2.TraceSettingResponse()
        for key, values in self._remote.trace().items():
            answer.settings[key].value.extend(values)
        return answer

    async def LogSettings(self, request: Any, context: Context) -> Any:
        self._remote.change_log(request.settings)
        answer = service_pb2.LogSettingsResponse()
        for key, value in self._remote.log().items():
            kind = {bool: "bool_param", int: "uint32_param", str: "string_param"}[type(value)]
            setattr(answer.settings[key], kind, value)
        return answer

    async def _infer(self, request: Any, deadline_at: float | None, hold: Hold, answer: InferAnswer) -> None:
        """Fills the answer in."""
        model = self._repository.get(request.model_name, request.model_version)
        with model.visitors:
            priority, timeout_s = read_queueing(request.parameters) if request.parameters else NOT_STATED
            # An overload is rejected before anything is decoded; `admit` decides once the items are counted.
            is_cached = self._cache.serves(model)
            if is_cached and isinstance(model, Model):
                model.batcher.policy.level(priority)  # refused even if the answer is there
            elif isinstance(model, Model):
                model.batcher.check_time(sum(map(len, request.raw_input_contents)), deadline_at, priority)
            inputs_at = find_places(request.inputs, "input", self._memory)
            outputs: Mapping[str, DeclaredTensor] = model.outputs_by_name
            wanted, outputs_at, counts = list(outputs), NO_PLACES, NO_COUNTS
            if request.outputs:
                outputs_at = find_places(request.outputs, "output", self._memory)
                check_outputs(request.outputs, outputs, model.name)
                counts = read_counts(request.outputs, outputs)
                wanted = [tensor.name for tensor in request.outputs]
            limit_bytes = self._limits.max_message_bytes
            read = (read_inputs, request, model.inputs, model.max_batch_size, model.defaults, limit_bytes, inputs_at)
            arrays, items = await self._workers.run(*read) if is_large(request, inputs_at) else read[0](*read[1:])
            planning = (plan, model, arrays, items, self._limits)
            planned = await self._workers.run(*planning) if are_large(arrays) else planning[0](*planning[1:])
            take(planned, model, arrays, items, wanted, self._limits, hold)
            compute = partial(run, model, arrays, items, planned, self._limits, deadline_at, timeout_s, priority)
            results = await (self._cache.get(model, arrays, compute) if is_cached else compute())
            if counts:
                classify = (classified, outputs, results, counts, model.labels, model.max_batch_size, limit_bytes)
                outputs, results = await self._workers.run(*classify)
            nbytes = sum([held_bytes(results[name]) for name in wanted])
            self._limits.check_reply(nbytes, "request fewer outputs")  # of axes and strings that only the graph knows
            head = answer.head
            head.model_name, head.model_version, head.id = model.name, str(model.version), request.id
            write = (write_outputs, answer, wanted, outputs, results, model.max_batch_size, outputs_at)
            await self._workers.run(*write) if is_large_answer(results, outputs_at) else write[0](*write[1:])

    async def _stream_answer(self, request: Any, deadline_at: float | None, as_status: bool, hold: Hold) -> Any:
        answer = InferAnswer()
        try:
            charge_message()
            await self._infer(request, deadline_at, hold, answer)
        except GanserveError as error:
            if as_status or isinstance(error, AccessError):  # a stream without a valid key ends
                raise
            failed = service_pb2.ModelStreamInferResponse(error_message=str(error))
            failed.infer_response.id = request.id
            return failed
        answer.head.parameters["triton_final_response"].bool_param = True
        return StreamAnswer(answer)

    def _entries(self, name: str) -> list[IndexEntry]:
        return [entry for entry in self._repository.index() if entry.name == name]

    def _check_control(self, request: Any) -> None:
        _check_repository(request.repository_name)
        control = self._settings.model_control
        if control != "explicit":
            why = " if polling is enabled" if control == "poll" else ""
            setting = f"GANSERVE_MODEL_CONTROL is {control}; explicit turns it on"
            raise NotServing(f"explicit model load / unload is not allowed{why}: {setting}")


def _check_repository(name: str) -> None:
    if name:
        raise Unsupported(f"repository {name!r}: this server has one repository; leave repository_name empty")


METHODS = [method.name for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods]
SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
