"""Opens a version's critic on the devices of its generator, with a queue and batches of its own."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from artifact.dtypes import NUMPY_OF
from artifact.repository import CRITIC
from artifact.spec import Spec, TensorSpec
from server.batching.batcher import Batcher
from server.batching.device import Device
from server.batching.policy import Policy
from server.engines.base import Engine
from server.engines.itemwise import ItemwiseEngine
from server.errors import NotServing
from server.images.critic import Critic
from server.observability.metrics import Metrics
from server.repository.devices import Devices
from server.repository.engine_choice import EngineFactory
from server.repository.model_version import ModelVersion
from server.repository.placement import Placement
from server.repository.warmup import run_once


def series_name(model: str) -> str:
    """What the critic of a model is called in metrics: no model's name has a slash."""
    return f"{model}/critic"


async def open_critic(
    version: ModelVersion,
    placements: Sequence[Placement],
    policy: Policy,
    factory: EngineFactory,
    devices: Devices,
    metrics: Metrics,
    hang_timeout_s: float,
) -> Critic | None:
    """The critic that the manifest names, each engine run once; None without one. `policy`: of the generator.

    Raises:
        NotServing: it is not what the manifest says.
        StartError: ONNX Runtime cannot open it.
    """
    spec = version.spec
    if spec is None or spec.critic is None or CRITIC not in spec.files:
        return None
    engines: dict[Device, Engine] = {}
    try:
        for placement in placements:
            engine = ItemwiseEngine(await asyncio.to_thread(factory.open_beside, version, CRITIC, placement.device))
            engines[device := devices.at(placement)] = engine
            _check(spec, engine)
            arrays = {tensor.name: np.zeros((1, *tensor.shape), NUMPY_OF[tensor.dtype]) for tensor in engine.inputs}
            await run_once(device, engine, arrays, False, hang_timeout_s)
    except BaseException:
        await close_engines(engines)
        raise
    name = series_name(version.name)
    own = replace(policy, max_batch_size=max(1, policy.max_batch_size), preferred_batch_sizes=(), max_queue_delay_s=0.0)
    batcher = Batcher(engines, own, metrics.model(name, version.version))
    for cost in batcher.costs.values():
        cost.is_steady = True
    metrics.watch_queue(name, lambda: batcher.waiting_items, version.version)
    return Critic(spec, spec.critic, batcher)


async def close_critic(critic: Critic | None, metrics: Metrics, name: str, version: int, replaced: bool) -> None:
    """Ends it: accepted images are scored, then its engines are freed. Arguments as of `Loader.close`."""
    if critic is None:
        return
    await critic.batcher.drain()
    await close_engines(critic.batcher.engines)
    if not replaced:
        metrics.forget(series_name(name), version)


async def close_engines(engines: Mapping[Device, Engine]) -> None:
    """Closes each on a worker thread of its device."""
    await asyncio.gather(*(device.call(engine.close) for device, engine in engines.items()), return_exceptions=True)


def _check(spec: Spec, engine: Engine) -> None:
    """Checks that the graph has the tensors that it must have."""
    assert spec.critic is not None, "open_critic asked"
    label = (TensorSpec("label", "INT64", ()),) if spec.critic.takes_label else ()
    expected = (TensorSpec("image", "UINT8", spec.image_shape), *label), (TensorSpec("score", "FP32", ()),)
    found = (engine.inputs, engine.outputs)
    if found != expected:
        raise NotServing(f"{CRITIC} has the tensors {found}, the manifest makes them {expected}")
