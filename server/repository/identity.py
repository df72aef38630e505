"""What decides a model's results, byte for byte: its files, what the manifest and the config say of running them, what
runs them, and the processor."""

import functools
import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass

from tritonclient.grpc.model_config_pb2 import ModelConfig

from server.engines.processor import read_processor
from server.environment import instruction_set_cap
from server.repository.engine_choice import Opened
from server.repository.model_version import ModelVersion
from server.repository.placement import Placement

_LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt-rtx-cu13-libs", "tensorrt-cu13-libs")


@dataclass(frozen=True)
class Identity:
    """`digest`: two models with the same one give the same results. `is_exact`: also the same bytes in every batch."""

    digest: str = ""
    is_exact: bool = False


NOBODY = Identity()


def identify(version: ModelVersion, opened: Mapping[Placement, Opened]) -> Identity:
    """The identity of a model with those engines; an empty one without a manifest. Reads files."""
    spec, config = version.spec, version.config or ModelConfig()
    if spec is None:
        return NOBODY
    engines = sorted({(one.platform, one.choice.engine, one.choice.precision) for one in opened.values()})
    devices = sorted({placement.device.kind for placement in opened})
    cuts = (spec.scale, spec.tile, spec.multiple_px, spec.least_px)
    said = ModelConfig(
        optimization=config.optimization,
        parameters=config.parameters,
        default_model_filename=config.default_model_filename,
    ).SerializeToString(deterministic=True)
    facts = (sorted(spec.files.items()), cuts, said, engines, devices, _machine())
    return Identity(hashlib.sha256(repr(facts).encode()).hexdigest(), devices == ["cpu"])


@functools.cache
def _machine() -> tuple[object, ...]:
    processor = read_processor()
    versions = [(name, _version(name)) for name in _LIBRARIES]
    return processor.name, sorted(processor.flags), instruction_set_cap(), versions


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
