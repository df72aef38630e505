"""A Triton ensemble: models of this repository whose tensors go from one to the next, served as one model.

It has no files and no engine of its own. It is bound to the models that serve at the moment, and bound anew whenever
one of them changes. Ensembles in an ensemble are unfolded: what runs is one list of steps.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInput, ModelOutput

from artifact.dtypes import TRITON_OF
from server.errors import NotServing
from server.observability.model_statistics import ModelStatistics
from server.repository.declared import Axes, DeclaredTensor
from server.repository.defaults import NO_OPTIONAL_INPUTS, OptionalInputs
from server.repository.ensemble_config import MAX_STEPS, ordered_steps
from server.repository.model import Model


@dataclass(frozen=True)
class Step:
    """One model's part. `inputs`, `outputs`: by the model's own name the ensemble's tensor. `where`: for the texts of
    errors."""

    where: str
    model: Model
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """A version that is ready. `steps`: in an order in which they can run. `members`: what its own steps name, models
    or ensembles. `inner`: the statistics of the ensembles in it."""

    name: str
    version: int
    config: ModelConfig
    steps: tuple[Step, ...]
    members: tuple["Served", ...]
    statistics: ModelStatistics
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inner: tuple[ModelStatistics, ...] = ()
    defaults: OptionalInputs = NO_OPTIONAL_INPUTS
    note: str = ""
    spec: None = None

    @cached_property
    def inputs(self) -> tuple[DeclaredTensor, ...]:
        """As requests have them, in the config's order."""
        return _declared(self.config.input)

    @cached_property
    def outputs(self) -> tuple[DeclaredTensor, ...]:
        """As replies have them, in the config's order."""
        return _declared(self.config.output)

    @cached_property
    def outputs_by_name(self) -> Mapping[str, DeclaredTensor]:
        """The same by name."""
        return {tensor.name: tensor for tensor in self.outputs}

    @property
    def visitors(self) -> AbstractContextManager[object]:
        """As `Model.visitors`: of the models of all steps."""
        visits = ExitStack()
        for step in self.steps:
            visits.enter_context(step.model.visitors)
        return visits

    @property
    def max_batch_size(self) -> int:
        """Of one request; 0: its tensors have no batch axis."""
        return int(self.config.max_batch_size)


Served: TypeAlias = Model | Ensemble


def bind(
    name: str,
    version: int,
    config: ModelConfig,
    statistics: Callable[[], ModelStatistics],
    labels: Mapping[str, Sequence[str]],
    find: Callable[[str, int], Served],
) -> Ensemble:
    """The ensemble of a config that `check_ensemble` has passed, of the models that `find` gives for a name and version
    (-1: the newest).

    Raises:
        NotServing: a model is missing, has not the tensors that are mapped, or they do not fit together.
    """
    tensors = _Tensors(name, config)
    steps: list[Step] = []
    members: list[Served] = []
    inner: list[ModelStatistics] = []
    for number, step in ordered_steps(config):
        model = find(step.model_name, step.model_version)
        least = model.max_batch_size
        if least and least < config.max_batch_size:
            raise NotServing(
                f"ensemble {name!r} allows maximum batch size {config.max_batch_size}, but it contains model "
                f"{model.name!r} which only allows maximum batch size to be {least}"
            )
        tensors.map_inputs(model, step.input_map)
        tensors.map_outputs(model, step.output_map)
        members.append(model)
        where = f"step {number} (model {model.name!r})"
        if isinstance(model, Ensemble):
            steps += _unfolded(model, number, where, dict(step.input_map), dict(step.output_map))
            inner += [model.statistics, *model.inner]
        else:
            steps.append(Step(where, model, dict(step.input_map), dict(step.output_map)))
        if len(steps) > MAX_STEPS:
            raise NotServing(f"ensemble {name!r} has more than {MAX_STEPS} steps with those of the ensembles in it")
    return Ensemble(name, version, config, tuple(steps), tuple(members), statistics(), labels, tuple(inner))


def _unfolded(
    inner: Ensemble, number: int, where: str, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> Iterator[Step]:
    """The steps of an ensemble in another, with the other's tensors."""
    renamed = {**outputs, **inputs}

    def outside(name: str) -> str:
        return renamed.get(name) or f"{number}\0{name}"  # no tensor of a config has such a name

    for step in inner.steps:
        yield replace(
            step,
            where=f"{where}, {step.where}",
            inputs={mine: outside(name) for mine, name in step.inputs.items()},
            outputs={mine: outside(name) for mine, name in step.outputs.items()},
        )


@dataclass(frozen=True)
class _Tensor:
    """A tensor as one of its ends has it; `model`: which."""

    model: str
    data_type: int
    dims: Axes
    batched: bool

    @property
    def full(self) -> Axes:
        return (-1, *self.dims) if self.batched else self.dims


class _Tensors:
    """The tensors of an ensemble, as the first of their ends has them. The texts are Triton's."""

    def __init__(self, name: str, config: ModelConfig) -> None:
        self._what = f"in ensemble {name!r}, "
        self._found = {
            entry.name: _Tensor(name, entry.data_type, tuple(entry.dims), config.max_batch_size > 0)
            for entry in (*config.input, *config.output)
        }

    def map_inputs(self, model: Served, names: Mapping[str, str]) -> None:
        """Checks that every input gets a tensor that it accepts.

        Raises:
            NotServing: one does not.
        """
        entries = {entry.name: entry for entry in model.config.input}
        for mine, name in names.items():
            if mine not in entries:
                raise NotServing(
                    f"{self._what}ensemble tensor {name!r} is mapping to non-existing input {mine!r} in model "
                    f"{model.name!r}, which has {', '.join(entries)}"
                )
            self._check(name, model, entries[mine])
        for mine, entry in entries.items():
            if mine not in names and not entry.optional:
                text = f"input {mine!r} in model {model.name!r} is not mapped to any ensemble tensors"
                raise NotServing(self._what + text)

    def map_outputs(self, model: Served, names: Mapping[str, str]) -> None:
        """Checks that the outputs exist and are what the tensors' other ends take.

        Raises:
            NotServing: one is not.
        """
        entries = {entry.name: entry for entry in model.config.output}
        for mine, name in names.items():
            if mine not in entries:
                raise NotServing(
                    f"{self._what}ensemble tensor {name!r} is mapped from non-existing output {mine!r} in model "
                    f"{model.name!r}, which has {', '.join(entries)}"
                )
            self._check(name, model, entries[mine])

    def _check(self, name: str, model: Served, entry: ModelInput | ModelOutput) -> None:
        found = _Tensor(model.name, entry.data_type, tuple(entry.dims), model.max_batch_size > 0)
        known = self._found.setdefault(name, found)
        if known.data_type != found.data_type:
            one, other = (DataType.Name(each.data_type) for each in (known, found))
            self._conflict(name, "data type", one, known.model, other, found.model)
        if not (_agree(known.dims, found.dims) or _agree(known.full, found.full)):
            one, other = (f"[{','.join(map(str, each.full))}]" for each in (known, found))
            self._conflict(name, "shape", one, known.model, other, found.model)

    def _conflict(self, name: str, what: str, one: str, model: str, other: str, other_model: str) -> None:
        raise NotServing(
            f"{self._what}ensemble tensor {name!r}: inconsistent {what}: {one} is inferred from model {model!r} while "
            f"{other} is inferred from model {other_model!r}"
        )


def _agree(one: Axes, other: Axes) -> bool:
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def _declared(entries: Sequence[ModelInput | ModelOutput]) -> tuple[DeclaredTensor, ...]:
    kinds = {triton: name for name, triton in TRITON_OF.items()}
    return tuple(
        DeclaredTensor(entry.name, kinds[DataType.Name(entry.data_type)], dims := tuple(entry.dims), dims, dims)
        for entry in entries
    )
