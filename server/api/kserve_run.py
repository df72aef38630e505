"""A tensor request on its way through a model, or through the steps of an ensemble: planned from shapes, then run."""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from numpy.typing import NDArray

from server.api.kserve_limits import Arrays, Expected, Shapes, check_pixels, check_values, expected_outputs
from server.api.limits import Limits
from server.api.quotas import charge_tensors
from server.batching.chain import Chain, Run, Stage
from server.batching.job import Done
from server.engines.strings import held_bytes
from server.errors import InvalidRequest, in_step
from server.images.concurrency import run_bounded
from server.images.memory import COUNTED_BYTES, REPLY_COPIES, Hold
from server.observability.model_statistics import failure_reason
from server.repository.declared import Axes
from server.repository.ensemble import Ensemble, Served, Step

Outputs = Mapping[str, NDArray[Any]]


class Plan(NamedTuple):
    """What a request will compute, as far as shapes tell.

    `stages`: what it wants of each model. `outputs`: of the reply. `tensors`: all that will be computed.
    """

    stages: Sequence[Stage]
    outputs: Mapping[str, Expected]
    tensors: Sequence[Expected]

    @property
    def held_bytes(self) -> int:
        """Of everything that will be computed, what goes from one step to the next included."""
        return sum([tensor.nbytes for tensor in self.tensors])


def plan(model: Served, arrays: Arrays, items: int, limits: Limits) -> Plan:
    """Checks what a request makes each of the models compute, before anything runs.

    Raises:
        InvalidRequest: values or shapes that a model does not accept.
        ImageTooLarge: more pixels than the limits allow, also between two steps.
    """
    if isinstance(model, Ensemble):
        return _plan_steps(model, arrays, items, limits)
    shapes = {name: array.shape for name, array in arrays.items()}
    check_values(model, arrays)
    check_pixels(model, shapes, limits)
    outputs = expected_outputs(model, items, shapes)
    nbytes = sum(map(held_bytes, arrays.values()))
    return Plan([Stage("", model.batcher, items, nbytes)], outputs, list(outputs.values()))


def take(
    planned: Plan, model: Served, arrays: Arrays, items: int, wanted: Collection[str], limits: Limits, hold: Hold
) -> None:
    """Counts what a request will compute and return against the limits, the memory and its key's quota.

    Raises:
        ImageTooLarge: more than a reply or a quota may have.
        Overloaded: others hold too much memory, or the quota is used up.
    """
    nbytes = sum([planned.outputs[name].nbytes for name in wanted])
    limits.check_reply(nbytes, "send fewer items, or request fewer outputs")
    if (needed := planned.held_bytes + nbytes * REPLY_COPIES) > COUNTED_BYTES:
        hold.take(needed)
    computed = (tensor.shape for tensor in planned.tensors if tensor.shape is not None)
    charge_tensors(items, arrays, computed, model.spec.scale if model.spec else 1)


async def run(
    model: Served,
    arrays: Arrays,
    items: int,
    planned: Plan,
    limits: Limits,
    deadline: float | None,
    timeout_s: float,
    priority: int,
) -> Outputs:
    """The outputs.

    Raises:
        CapacityError: a model rejects the request, or the deadline passed.
        InferenceFailed: an engine could not compute it.
    """
    if isinstance(model, Ensemble):
        return await _run_ensemble(model, arrays, items, planned, limits, deadline, timeout_s, priority)
    stage = planned.stages[0]
    with model.batcher.admit(stage.items, stage.nbytes, deadline, timeout_s, priority=priority) as admission:
        return (await admission.run(arrays)).outputs


def _plan_steps(ensemble: Ensemble, arrays: Arrays, items: int, limits: Limits) -> Plan:
    tensors = {name: Expected(array.shape, array.nbytes) for name, array in arrays.items()}
    stages: list[Stage] = []
    for step in ensemble.steps:
        with in_step(step.where):
            known = {mine: tensors[name].shape for mine, name in step.inputs.items()}
            shapes = {mine: shape for mine, shape in known.items() if shape is not None}
            rows, graph_shapes = _fit(step, shapes, items)
            check_values(step.model, {mine: arrays[name] for mine, name in step.inputs.items() if name in arrays})
            check_pixels(step.model, graph_shapes, limits)
            outputs = expected_outputs(step.model, rows, graph_shapes)
        tensors |= {name: outputs[mine] for mine, name in step.outputs.items()}
        nbytes = sum(tensors[name].nbytes for name in step.inputs.values())
        stages.append(Stage(step.where, step.model.batcher, rows, nbytes))
    computed = [tensor for name, tensor in tensors.items() if name not in arrays]
    return Plan(stages, {tensor.name: tensors[tensor.name] for tensor in ensemble.outputs}, computed)


async def _run_ensemble(
    ensemble: Ensemble,
    arrays: Arrays,
    items: int,
    planned: Plan,
    limits: Limits,
    deadline: float | None,
    timeout_s: float,
    priority: int,
) -> Outputs:
    """Runs the steps and counts the request at the ensemble; its models count it at themselves."""
    started_at = time.monotonic()
    try:
        with Chain(planned.stages, deadline, timeout_s, priority) as chain:
            outputs, runs = await _run_steps(ensemble, arrays, chain, limits)
    except BaseException as error:
        ensemble.statistics.failed(failure_reason(error), time.monotonic() - started_at)
        raise
    input_s, infer_s, output_s = (
        sum(getattr(done, field) for done in runs) for field in ("input_s", "compute_s", "output_s")
    )
    queue_s = sum(done.queue_s for done in runs)
    for statistics in (ensemble.statistics, *ensemble.inner):
        statistics.executed(items, input_s, infer_s, output_s)
        statistics.succeeded(items, queue_s, input_s, infer_s, output_s, time.monotonic() - started_at)
    return outputs


async def _run_steps(ensemble: Ensemble, arrays: Arrays, chain: Chain, limits: Limits) -> tuple[Outputs, list[Done]]:
    """Each step as soon as its tensors are there; the first one that fails ends the others."""
    loop = asyncio.get_running_loop()
    tensors: dict[str, asyncio.Future[NDArray[Any]]] = {
        name: loop.create_future() for step in ensemble.steps for name in step.outputs.values()
    }
    for name, array in arrays.items():
        tensors[name] = loop.create_future()
        tensors[name].set_result(array)

    async def run_step(number: int, step: Step) -> Done:
        given = {mine: await tensors[name] for mine, name in step.inputs.items()}
        with chain.step(number) as run:
            done, outputs = await _run_step(step, given, run, limits)
        chain.end(number)
        for mine, name in step.outputs.items():
            tensors[name].set_result(outputs[mine])
        return done

    work = (run_step(number, step) for number, step in enumerate(ensemble.steps))
    async with aclosing(run_bounded(work, len(ensemble.steps))) as ready:
        runs = [done async for done in ready]
    outputs = {}
    for tensor in ensemble.outputs:
        array = tensors[tensor.name].result()
        shape = _aligned(array.shape, len(tensor.dims), ensemble.max_batch_size > 0)
        axes = shape[1:] if ensemble.max_batch_size else shape
        if tensor.to_graph(axes) is None:
            raise InvalidRequest(f"output {tensor.name!r} has shape {list(axes)}, the config has {list(tensor.dims)}")
        outputs[tensor.name] = array.reshape(shape)
    return outputs, runs


async def _run_step(step: Step, given: Arrays, run: Run, limits: Limits) -> tuple[Done, Outputs]:
    """How it went, and the outputs as a reply would have them."""
    model = step.model
    rows, shapes = _fit(step, {mine: array.shape for mine, array in given.items()}, 1)
    check_pixels(model, shapes, limits)  # of axes that only the graph before it knew
    arrays = {mine: array.reshape(shapes[mine]) for mine, array in given.items()}
    check_values(model, arrays)
    missing = [tensor.name for tensor in model.inputs if tensor.name not in arrays]
    arrays |= {name: model.defaults.fill(name, arrays, rows) for name in missing}
    done = await run({tensor.name: arrays[tensor.name] for tensor in model.inputs})
    batch_axes = 1 if model.max_batch_size else 0
    outputs = {}
    for tensor in model.outputs:
        array = done.outputs[tensor.name]
        outputs[tensor.name] = array.reshape(array.shape[:batch_axes] + tensor.to_wire(array.shape[batch_axes:]))
    return done, outputs


def _fit(step: Step, shapes: Shapes, rows: int) -> tuple[int, dict[str, Axes]]:
    """The rows that the model gets, and the shapes that its graph gets, of the inputs with these `shapes`.

    `rows`: if none of them tells.

    Raises:
        InvalidRequest: the model does not accept them.
    """
    model, found = step.model, dict[str, Axes]()
    for tensor in model.inputs:
        if tensor.name not in shapes:
            continue
        shape = _aligned(shapes[tensor.name], len(tensor.dims), model.max_batch_size > 0)
        batch, axes = (shape[:1], shape[1:]) if model.max_batch_size else ((), shape)
        graph_axes = tensor.to_graph(axes)
        if graph_axes is None:
            expected = [-1, *tensor.dims] if model.max_batch_size else list(tensor.dims)
            what = f"input {tensor.name!r} (ensemble tensor {step.inputs[tensor.name]!r})"
            raise InvalidRequest(f"unexpected shape for {what}. Expected {expected}, got {list(shapes[tensor.name])}")
        found[tensor.name] = batch + graph_axes
    if not model.max_batch_size:
        return 1, found
    sizes = {shape[0] for shape in found.values()} or {rows}
    if len(sizes) > 1:
        raise InvalidRequest(f"inputs differ in their first axis: {sorted(sizes)}; it is the batch and must be equal")
    if not 1 <= (rows := sizes.pop()) <= model.max_batch_size:
        raise InvalidRequest(
            f"inference request batch-size must be <= {model.max_batch_size} for {model.name!r} and at least 1, but "
            f"it gets {rows} (max_batch_size)"
        )
    return rows, found


def _aligned(shape: Axes, axes: int, batched: bool) -> Axes:
    """With a batch axis of one item if there is none and one is needed, and the other way round."""
    if batched and len(shape) == axes:
        return (1, *shape)
    return shape[1:] if not batched and len(shape) == axes + 1 and shape[0] == 1 else shape
