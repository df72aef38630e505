"""A version that serves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.spec import Spec
from server.batching.batcher import Batcher
from server.batching.visitors import Visitors
from server.engines.base import Engine
from server.engines.float_variant import FloatVariantEngine
from server.images.critic import Critic
from server.images.latent_space import LatentSpace
from server.images.marking import Mark
from server.observability.model_statistics import ModelStatistics
from server.repository.cpu.kept import UNKNOWN, Choice
from server.repository.declared import DeclaredTensor, declared
from server.repository.defaults import NO_OPTIONAL_INPUTS, OptionalInputs
from server.repository.identity import NOBODY, Identity
from server.repository.judging import Judging


@dataclass(frozen=True, eq=False)
class Model:
    """A version that is ready. `spec` is None for a model without a manifest: plain tensors only."""

    name: str
    version: int
    spec: Spec | None
    config: ModelConfig
    engine: Engine  # the first of the batcher's: inputs and outputs are those of all
    batcher: Batcher
    statistics: ModelStatistics
    defaults: OptionalInputs = NO_OPTIONAL_INPUTS  # for what tensor requests may leave out
    note: str = ""  # for operators: why something else serves than what was requested or is best
    choice: Choice = UNKNOWN  # what runs it on the first of its devices
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)  # of an output's indices, by output
    identity: Identity = NOBODY
    latents: LatentSpace | None = None
    critic: Critic | None = None
    mark: Mark = Mark.NONE  # how its images say that a network made them
    judging: Judging | None = None
    visitors: Visitors = field(default_factory=Visitors)

    @property
    def space(self) -> LatentSpace:
        """What a generator's latents can be changed in."""
        assert self.latents is not None, "the image API serves models with a manifest"
        return self.latents

    @cached_property
    def inputs(self) -> tuple[DeclaredTensor, ...]:
        """As requests have them, in the graph's order."""
        return declared(self.config.input, self.engine.inputs)

    @cached_property
    def outputs(self) -> tuple[DeclaredTensor, ...]:
        """As replies have them, in the graph's order; a config may leave some out."""
        return declared(self.config.output, self.engine.outputs)

    @cached_property
    def outputs_by_name(self) -> Mapping[str, DeclaredTensor]:
        """The same by name."""
        return {tensor.name: tensor for tensor in self.outputs}

    @cached_property
    def has_fixed_outputs(self) -> bool:
        """Whether every axis of the outputs has one size."""
        return all(tensor.is_fixed for tensor in self.outputs)

    @cached_property
    def takes_floats(self) -> bool:
        """Whether it computes images of 16 bits."""
        return all(isinstance(engine, FloatVariantEngine) for engine in self.batcher.engines.values())

    @cached_property
    def max_batch_size(self) -> int:
        """Of one run; 0 for a graph without a batch axis."""
        return int(self.config.max_batch_size)
