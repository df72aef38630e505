"""What the server has: its models, their directions, their judges."""

import asyncio
from collections.abc import Collection
from contextlib import ExitStack

from artifact.spec import Spec, Task
from ganserve.v1 import images_pb2 as pb
from ganserve.v1.images_pb2_grpc import ImageServiceServicer
from server.api.calls import Context, hold_of, hold_until_read
from server.api.limits import Limits
from server.api.model_info import describe, describe_directions, describe_judge
from server.errors import InvalidRequest
from server.images.memory import REPLY_COPIES, MemoryBudget
from server.repository.model import Model
from server.repository.repository import Repository

_RPC_OF = {
    Task.UNCONDITIONAL: ("Generate", "seeds or latents"),
    Task.CLASS_CONDITIONAL: ("Generate", "seeds or latents"),
    Task.SUPER_RESOLUTION: ("Upscale", "an image"),
    Task.IMAGE_TO_IMAGE: ("Translate", "an image"),
    Task.ENCODER: ("ModelInfer", "an image and gives w"),
}
GENERATORS = (Task.UNCONDITIONAL, Task.CLASS_CONDITIONAL)


class Listings(ImageServiceServicer):
    """The calls of the image API that compute nothing."""

    def __init__(self, repository: Repository, limits: Limits, budget: MemoryBudget) -> None:
        self._repository = repository
        self._limits = limits
        self._budget = budget

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsReply:
        """What the repository holds."""
        return pb.ListModelsReply(models=[describe(entry) for entry in self._repository.index()])

    async def ListDirections(self, request: pb.ListDirectionsRequest, context: Context) -> pb.ListDirectionsReply:
        """The directions of a generator, by index."""
        with ExitStack() as visits:
            model, _ = self._find(request.model, request.version, GENERATORS, visits)
            return describe_directions(model)

    async def GetJudge(self, request: pb.GetJudgeRequest, context: Context) -> pb.GetJudgeReply:
        """The graph that says what a generator's images show."""
        with ExitStack() as visits:
            model, spec = self._find(request.model, request.version, GENERATORS, visits)
            if model.judging is None:
                raise InvalidRequest(f"model {model.name!r} has no judge: export it with --judge FILE")
            path = model.judging.path
            nbytes = (await asyncio.to_thread(path.stat)).st_size
            self._limits.check_reply(nbytes, "read judge.onnx where the repository is")
            hold = hold_of(context, self._budget)
            hold_until_read(context, hold)
            hold.take(nbytes * REPLY_COPIES)
            graph = await asyncio.to_thread(path.read_bytes)
            return pb.GetJudgeReply(
                model=model.name, version=str(model.version), graph=graph, judge=describe_judge(spec)
            )

    def _find(self, name: str, version: str, tasks: Collection[Task], visits: ExitStack) -> tuple[Model, Spec]:
        """The model, whose task must be one of those that the RPC serves, and which stays open for `visits`."""
        model = self._repository.get_model(name, version)
        visits.enter_context(model.visitors)
        spec = model.spec
        if spec is None or spec.tensors != "uint8":
            why = "has no manifest" if spec is None else f"was exported with tensors={spec.tensors}"
            raise InvalidRequest(f"model {name!r} {why}: the image API cannot serve it; use ModelInfer")
        if spec.task not in tasks:
            rpc, takes = _RPC_OF[spec.task]
            raise InvalidRequest(f"model {name!r} is {spec.task}: it takes {takes}; use {rpc}")
        return model, spec
