"""An ensemble's config.pbtxt: what can be checked without its models, and the order of its steps."""

import heapq
from collections import Counter
from collections.abc import Iterator

from tritonclient.grpc.model_config_pb2 import TYPE_INVALID, ModelConfig, ModelEnsembling

from artifact.repository import CONFIG
from server.errors import NotServing
from server.repository.config_fields import set_fields

PLATFORM = "ensemble"
# Steps of one ensemble, those of the ensembles in it included.
MAX_STEPS = 64

# Of the fields that other models honour, those that an ensemble has a use for; see `config_fields.FIELDS`.
_USED = (
    "name", "platform", "version_policy", "max_batch_size", "input.name", "input.data_type", "input.dims",
    "input.format", "output.name", "output.data_type", "output.dims", "output.label_filename", "ensemble_scheduling",
    "model_repository_agents", "response_cache", "metric_tags", "model_metrics",
)  # fmt: skip
_REFUSED = {
    "backend": "an ensemble has none",
    "instance_group": "an ensemble runs nothing itself; set it in its models",
    "input.reshape": "name the dims that the models have",
    "output.reshape": "name the dims that the models have",
    "input.optional": "leave the input out of the ensemble, and its model takes the default",
}


def is_ensemble(config: ModelConfig | None) -> bool:
    """Whether the config is of an ensemble."""
    return config is not None and (config.platform == PLATFORM or config.HasField("ensemble_scheduling"))


def check_ensemble(config: ModelConfig) -> None:
    """Checks what can be checked without the models.

    Raises:
        NotServing: a field is missing or makes no sense, or the steps and tensors do not hang together.
    """
    if config.platform != PLATFORM or not config.ensemble_scheduling.step:
        raise NotServing(f"{CONFIG}: an ensemble has platform {PLATFORM!r} and ensemble_scheduling with steps")
    if (steps := len(config.ensemble_scheduling.step)) > MAX_STEPS:
        raise NotServing(f"{CONFIG}: ensemble_scheduling has {steps} steps; at most {MAX_STEPS}")
    for path in set_fields(config):
        for refused, why in _REFUSED.items():
            if f"{path}.".startswith(f"{refused}."):
                raise NotServing(f"{CONFIG}: {path} is not supported for an ensemble: {why}")
    for kind, entries in (("input", config.input), ("output", config.output)):
        if not entries:
            raise NotServing(f"{CONFIG}: an ensemble has an {kind} at least")
        for entry in entries:
            if not entry.name or entry.data_type == TYPE_INVALID or not entry.dims:
                raise NotServing(f"{CONFIG}: {kind} {entry.name!r} of an ensemble needs name, data_type and dims")
    for number, step in enumerate(config.ensemble_scheduling.step, 1):
        _check_step(number, step)
    _check_tensors(config)
    ordered_steps(config)


def without_use(config: ModelConfig) -> Iterator[str]:
    """What the config sets that an ensemble has no use for: one line for each field."""
    for path in dict.fromkeys(set_fields(config)):
        if not path.startswith(_USED):
            yield f"{path}: an ensemble runs nothing itself"


def ordered_steps(config: ModelConfig) -> list[tuple[int, ModelEnsembling.Step]]:
    """The steps with their numbers in the config, from 1, each behind those whose tensors it needs.

    Raises:
        NotServing: they wait for each other.
    """
    steps = dict(enumerate(config.ensemble_scheduling.step, 1))
    makers = {name: number for number, step in steps.items() for name in step.output_map.values()}
    needs = {
        number: {makers[name] for name in step.input_map.values() if name in makers} for number, step in steps.items()
    }
    ready = [number for number, sources in needs.items() if not sources]
    ordered: list[tuple[int, ModelEnsembling.Step]] = []
    while ready:
        done = heapq.heappop(ready)
        ordered.append((done, steps[done]))
        for number, sources in needs.items():
            if done in sources:
                sources.remove(done)
                if not sources:
                    heapq.heappush(ready, number)
    if len(ordered) < len(steps):
        waiting = ", ".join(f"{number} (model {steps[number].model_name!r})" for number, left in needs.items() if left)
        raise NotServing(f"{CONFIG}: ensemble_scheduling is circular: the steps {waiting} wait for each other")
    return ordered


def _check_step(number: int, step: ModelEnsembling.Step) -> None:
    for field, given in (
        ("model_name", step.model_name), ("input_map", step.input_map), ("output_map", step.output_map),
    ):  # fmt: skip
        if not given:
            raise NotServing(f"{CONFIG}: must specify {field!r} in step {number} of ensemble")
    if step.model_version < 1 and step.model_version != -1:
        what = f"{CONFIG}: step {number}: model_version {step.model_version}"
        raise NotServing(f"{what}: must be a version, or -1 for the newest")


def _check_tensors(config: ModelConfig) -> None:
    steps = config.ensemble_scheduling.step
    made = Counter(name for step in steps for name in step.output_map.values())
    made.update(entry.name for entry in config.input)
    used = {name for step in steps for name in step.input_map.values()}
    for name, times in made.items():
        if times > 1:
            raise NotServing(f"{CONFIG}: ensemble tensor {name!r} comes from {times} places; it can from one only")
    for number, step in enumerate(steps, 1):
        for mine, name in step.input_map.items():
            if name not in made:
                what = f"ensemble tensor {name!r} for input {mine!r} of step {number} (model {step.model_name!r})"
                raise NotServing(f"{CONFIG}: {what} is neither an input nor an output of a step")
    for entry in config.input:
        if entry.name not in used:
            raise NotServing(f"{CONFIG}: ensemble input {entry.name!r} is not used")
    inputs = {entry.name for entry in config.input}
    for output in config.output:
        if output.name not in made or output.name in inputs:
            raise NotServing(f"{CONFIG}: ensemble output {output.name!r} is not made by any step")
