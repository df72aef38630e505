"""Where a model's engines run: Triton's `instance_group`, read for the devices that this server has."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from artifact.repository import CONFIG
from server.errors import NotServing, StartError

CPU = "cpu"


@dataclass(frozen=True)
class Placement:
    """A place for one engine: `cpu` or `cuda:N`, and which of the model's instances there it is."""

    device: str
    slot: int = 0


def usable_gpus(asked: str, present: int) -> tuple[int, ...]:
    """The GPUs that a server started with `--device asked` may use, of so many `present`.

    Raises:
        StartError: it asks for a GPU that is not there.
    """
    kind, _, index = asked.partition(":")
    if kind == CPU:
        return ()
    if kind == "cuda" and int(index or 0) >= present:
        raise StartError(f"device {asked}: CUDA lists {present} GPUs here; pass --device cpu, or install its driver")
    return (int(index),) if index else tuple(range(present))


def placements(config: ModelConfig | None, device: str, gpus: Sequence[int]) -> tuple[Placement, ...]:
    """Where the model's engines go, GPUs first.

    Without an `instance_group`: once on `device`, the server's own; of several GPUs that is one, where Triton would
    take them all, since a model that nobody asked to be there would only hold their memory. With one: `count`
    instances on each of the group's GPUs, by default on all of `gpus`; several groups add up. KIND_AUTO is KIND_GPU
    on a server with GPUs and KIND_CPU without. On the CPU a model has one instance whatever its `count`: the lanes of
    that device already run its batches at once (docs/adr/0002-lanes.md).

    Raises:
        NotServing: a group asks for a GPU that the server does not have, or for what it does not do.
    """
    if config is None or not config.instance_group:
        return (Placement(device),)
    counts: Counter[str] = Counter()
    for group in config.instance_group:
        _check(group)
        for name in _devices(group, gpus):
            counts[name] = counts[name] + max(1, group.count) if name != CPU else 1
    ordered = sorted(counts, key=lambda name: name == CPU)
    return tuple(Placement(name, slot) for name in ordered for slot in range(counts[name]))


def remarks(config: ModelConfig | None, gpus: Sequence[int]) -> Iterator[str]:
    """What of the groups has no effect here, and why: one line each."""
    for group in config.instance_group if config is not None else ():
        if group.count > 1 and _devices(group, gpus) == [CPU]:
            yield f"count {group.count} on the CPU: its lanes already run batches at once (--threads)"
        if group.profile:
            yield f"profile {', '.join(group.profile)}: an engine uses each of its profiles where the shapes ask for it"
        if group.HasField("rate_limiter"):
            yield "rate_limiter: instances run as soon as their device is free, as in Triton without --rate-limit"
        if group.host_policy:
            yield f"host_policy {group.host_policy}: this server has no host policies"


def _check(group: ModelInstanceGroup) -> None:
    kind = ModelInstanceGroup.Kind.Name(group.kind)
    if group.kind == ModelInstanceGroup.KIND_MODEL:
        raise NotServing(f"{CONFIG}: instance_group: {kind} is not served here; KIND_AUTO, KIND_GPU and KIND_CPU are")
    if group.count < 0:
        raise NotServing(f"{CONFIG}: instance_group: count {group.count}: must be 1 or more")
    if group.passive:
        raise NotServing(f"{CONFIG}: instance_group: passive instances, which take no requests, are not served here")
    if group.secondary_devices:
        raise NotServing(f"{CONFIG}: instance_group: secondary_devices are not served here")
    if group.kind == ModelInstanceGroup.KIND_CPU and group.gpus:
        raise NotServing(f"{CONFIG}: instance_group: {kind} with gpus {list(group.gpus)}; one of the two must go")


def _devices(group: ModelInstanceGroup, gpus: Sequence[int]) -> list[str]:
    automatic = group.kind == ModelInstanceGroup.KIND_AUTO
    if group.kind == ModelInstanceGroup.KIND_CPU or (automatic and not gpus):
        return [CPU]
    has = ", ".join(f"cuda:{index}" for index in gpus) or "no GPU"
    absent = [f"gpus {index}" for index in group.gpus if index not in gpus] or ([] if gpus else ["KIND_GPU"])
    if absent:
        raise NotServing(f"{CONFIG}: instance_group: {absent[0]} asked; this server has {has} (--device)")
    return [f"cuda:{index}" for index in group.gpus or gpus]
