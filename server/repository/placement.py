"""Where a model's engines run: Triton's `instance_group`, read for the devices that this server has."""

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from artifact.repository import CONFIG
from server.engines.base import CPU, DeviceId
from server.engines.gpu_count import count_gpus
from server.engines.onnx.session import CUDA_PROVIDER, has_cuda, no_provider
from server.errors import NotServing, StartError

# Of one model on one device: each takes memory and threads of its own, and time to load.
MAX_INSTANCES = 256


@dataclass(frozen=True)
class Placement:
    """Where one engine runs, and which of the model's instances on that device it is."""

    device: DeviceId
    slot: int = 0


def usable_gpus(
    setting: str, count: Callable[[], int] = count_gpus, has_tensorrt: bool | None = None, engine: str = "auto"
) -> tuple[int, ...]:
    """The GPUs that a server started with `--device setting` may use; none: it runs on the CPU.

    `auto` is all GPUs if ONNX Runtime can use them, else the CPU.

    Args:
        setting: auto, cpu, cuda or cuda:N.
        count: counts the GPUs that are present.
        has_tensorrt: whether model.plan can be run, which is enough for `cuda`; None: look.
        engine: the setting; openvino runs on the CPU, so `auto` is no GPU.

    Raises:
        StartError: CUDA was requested, and nothing that is installed can use it or the GPU is not there.
    """
    if setting == "cpu" or (setting == "auto" and (engine == "openvino" or not has_cuda())):
        return ()
    if not has_cuda() and not (_finds_tensorrt() if has_tensorrt is None else has_tensorrt):
        raise StartError(
            f"device {setting}: {no_provider(CUDA_PROVIDER)}, and TensorRT is not installed; install 'ganserve[cuda]' "
            "in place of 'ganserve[cpu]', or 'ganserve[tensorrt-rtx]' for model.plan, or pass --device cpu"
        )
    present = count()
    if setting == "auto":
        return tuple(range(present))
    device = DeviceId.parse(setting)
    if device.index >= present:
        raise StartError(f"device {setting}: CUDA lists {present} GPUs here; pass --device cpu, or install its driver")
    return tuple(range(present)) if setting == "cuda" else (device.index,)


def default_device(gpus: Sequence[int]) -> DeviceId:
    """Where a model runs whose config does not say.

    Of several GPUs that is one, although Triton uses them all: each further copy of a model takes GPU memory, so an
    instance_group has to request it.
    """
    return DeviceId("cuda", gpus[0]) if gpus else CPU


def placements(config: ModelConfig | None, gpus: Sequence[int]) -> tuple[Placement, ...]:
    """Where the model's engines run, GPUs first.

    Without an `instance_group`: once on the default device. With one: `count` instances on each of the group's GPUs, by
    default on all of `gpus`; several groups add up. KIND_AUTO is KIND_GPU on a server with GPUs and KIND_CPU without.
    On the CPU a model has one instance whatever its `count`: its worker threads already run batches at once
    (docs/adr/0002-lanes.md).

    Raises:
        NotServing: a group names a GPU that this server does not have, or a kind that is not supported.
    """
    if config is None or not config.instance_group:
        return (Placement(default_device(gpus)),)
    counts: Counter[DeviceId] = Counter()
    for group in config.instance_group:
        for device in _devices(group, gpus):
            counts[device] = 1 if device == CPU else counts[device] + max(1, group.count)
    for device, count in counts.items():
        if count > MAX_INSTANCES:
            raise NotServing(f"{CONFIG}: instance_group: {count} instances on {device}; at most {MAX_INSTANCES}")
    ordered = sorted(counts, key=lambda device: device == CPU)
    return tuple(Placement(device, slot) for device in ordered for slot in range(counts[device]))


def remarks(config: ModelConfig | None, gpus: Sequence[int]) -> Iterator[str]:
    """What of the groups has no effect on this server's devices, and why: one line each."""
    if config is None:
        return
    on_cpu = sum(max(1, group.count) for group in config.instance_group if _devices(group, gpus) == [CPU])
    if on_cpu > 1:
        why = "its worker threads already run batches at once (--threads)"
        yield f"instance_group.count {on_cpu} on the CPU: {why}"
    on_gpu = any(placement.device != CPU for placement in placements(config, gpus))
    if config.optimization.execution_accelerators.gpu_execution_accelerator and not on_gpu:
        yield "gpu_execution_accelerator: the model runs on the CPU"


def _check(group: ModelInstanceGroup) -> None:
    kind = ModelInstanceGroup.Kind.Name(group.kind)
    if group.kind == ModelInstanceGroup.KIND_MODEL:
        raise NotServing(f"{CONFIG}: instance_group: {kind} is not supported; KIND_AUTO, KIND_GPU and KIND_CPU are")
    if group.count < 0:
        raise NotServing(f"{CONFIG}: instance_group: count {group.count}: must be 1 or more")
    if group.kind == ModelInstanceGroup.KIND_CPU and group.gpus:
        raise NotServing(f"{CONFIG}: instance_group: {kind} with gpus {list(group.gpus)}; remove one of the two")


def _devices(group: ModelInstanceGroup, gpus: Sequence[int]) -> list[DeviceId]:
    _check(group)
    automatic = group.kind == ModelInstanceGroup.KIND_AUTO
    if group.kind == ModelInstanceGroup.KIND_CPU or (automatic and not gpus):
        return [CPU]
    absent = [f"gpus {index}" for index in group.gpus if index not in gpus] or ([] if gpus else ["KIND_GPU"])
    if absent:
        has = ", ".join(str(DeviceId("cuda", index)) for index in gpus) or "no GPU"
        raise NotServing(f"{CONFIG}: instance_group: {absent[0]} requested; this server has {has} (--device)")
    return [DeviceId("cuda", index) for index in group.gpus or gpus]


def _finds_tensorrt() -> bool:
    return any(importlib.util.find_spec(name) for name in ("tensorrt_rtx_bindings", "tensorrt_rtx", "tensorrt"))
