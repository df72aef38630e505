"""What lies next to a generator's graph for its latents: the mapping network of a StyleGAN, directions, centres."""

from artifact.centers import read_centers
from artifact.directions import read_directions
from artifact.repository import MAPPING
from artifact.spec import Spec, TensorSpec
from server.engines.onnx.cpu import OnnxCpuEngine
from server.errors import NotServing
from server.images.latent_space import LatentSpace
from server.repository.model_version import ModelVersion


def open_latent_space(version: ModelVersion) -> LatentSpace | None:
    """With the engine of `mapping.onnx`, if the manifest names that file; None for a model without a manifest.

    The engine is ONNX Runtime on the CPU, of one thread, whatever runs the generator: it runs item by item while a
    request is read.

    Raises:
        NotServing: the mapping network is not this model's.
        StartError: ONNX Runtime cannot open it.
        ArtifactError: the directions, their names or the centres cannot be read.
    """
    spec = version.spec
    if spec is None or not spec.task.draws:
        return None if spec is None else LatentSpace(spec)
    directions, centers = read_directions(version.folder, spec), read_centers(version.folder, spec)
    if MAPPING not in spec.files:
        return LatentSpace(spec, directions)
    engine = OnnxCpuEngine(version.folder / MAPPING, lanes=1, threads=1, batched=True)
    found, expected = (engine.inputs, engine.outputs), _tensors(spec)
    if found != expected:
        raise NotServing(f"{MAPPING} has the tensors {found}, the manifest makes them {expected}")
    return LatentSpace(spec, directions, engine, centers)


def _tensors(spec: Spec) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a mapping network."""
    layers, _ = shape = spec.w_shape or (0, 0)
    label = (TensorSpec("label", "INT64", ()),) if spec.labels else ()
    psi = TensorSpec("truncation_psi", "FP32", (layers,))
    return (TensorSpec("latent", "FP32", (spec.latent_size,)), *label, psi), (TensorSpec("w", "FP32", shape),)
