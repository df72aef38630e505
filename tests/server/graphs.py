"""Small graphs with every input that a generator may have, as an export writes them: graph, manifest, config.pbtxt."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from artifact.golden import Golden
from artifact.repository import CRITIC, JUDGE, MANIFEST, ONNX, read_manifest, sha256_of, write_version
from artifact.spec import CriticSpec, Parity, Provenance, Spec, Task, TensorSpec, Tile
from export.config_pbtxt import config_pbtxt
from export.golden import measure_golden
from export.graph.parity import open_session
from export.judge.find import JudgeWanted, read_judge
from export.judge.run import open_judge

TYPES = {"FP32": TensorProto.FLOAT, "INT64": TensorProto.INT64, "UINT8": TensorProto.UINT8}
Node = tuple[str, list[str], str, dict[str, Any]]  # kind, inputs, output, attributes
LAYERS, Z = 2, 4
PROVENANCE = Provenance("test", "MIT", "0" * 64)


def write_styled(repository: Path, name: str, **changes: Any) -> Spec:
    """StyleGAN in little: a truncated latent or w, a label, and noise (N, 4) -> image (N, 2, 4, 1) uint8.

    `changes` are of the manifest alone.
    """
    spec = Spec(
        task=Task.CLASS_CONDITIONAL,
        architecture="test",
        hyperparameters={},
        tensors="uint8",
        precision="fp32",
        opset=18,
        inputs=(
            TensorSpec("latent", "FP32", (Z,)),
            TensorSpec("label", "INT64", ()),
            TensorSpec("noise", "FP32", (Z,)),
            TensorSpec("truncation_psi", "FP32", ()),
            TensorSpec("w", "FP32", (LAYERS, Z)),
            TensorSpec("w_given", "FP32", ()),
        ),
        outputs=(TensorSpec("image", "UINT8", (LAYERS, Z, 1)),),
        image_shape=(LAYERS, Z, 1),
        provenance=PROVENANCE,
        parity=Parity(1.0, 0.0, (1,), (0,)),
        latent_size=Z,
        labels=("one", "two", "three"),
        noise_size=Z,
        truncation_default=0.5,
        w_shape=(LAYERS, Z),
    )
    nodes: list[Node] = [
        ("Cast", ["label"], "kind", {"to": TensorProto.FLOAT}),
        ("Unsqueeze", ["kind", "one"], "kinds", {}),
        ("Add", ["latent", "kinds"], "mapped", {}),
        ("Unsqueeze", ["truncation_psi", "one"], "psi", {}),
        ("Mul", ["mapped", "psi"], "truncated", {}),
        ("Unsqueeze", ["truncated", "one"], "layer", {}),
        ("Expand", ["layer", "layers"], "every", {}),
        ("Unsqueeze", ["w_given", "two"], "given", {}),
        ("Cast", ["given"], "chosen", {"to": TensorProto.BOOL}),
        ("Where", ["chosen", "w", "every"], "styles", {}),
        ("Unsqueeze", ["noise", "one"], "noises", {}),
        ("Add", ["styles", "noises"], "values", {}),
        ("Mul", ["values", "gain"], "gained", {}),
        ("Add", ["gained", "grey"], "levels", {}),
        ("Clip", ["levels", "black", "white"], "clipped", {}),
        ("Unsqueeze", ["clipped", "last"], "pixels", {}),
        ("Cast", ["pixels"], "image", {"to": TensorProto.UINT8}),
    ]
    constants = {
        "one": np.array([1]), "two": np.array([1, 2]), "last": np.array([3]), "layers": np.array([1, LAYERS, 1]),
        "gain": np.float32(20), "grey": np.float32(128), "black": np.float32(0), "white": np.float32(255),
    }  # fmt: skip
    return _write(repository, name, spec, nodes, constants, changes)


def styled_image(latent: Any, label: int = 0, psi: float = 0.5, noise: Any = None, w: Any = None) -> NDArray[np.uint8]:
    """The image that the graph generates: (2, 4, 1) uint8. Without `noise`, the noise of seed 0."""
    noise = np.random.RandomState(0).randn(2 * Z)[Z:] if noise is None else noise
    styles = (np.asarray(latent, np.float32) + label) * np.float32(psi) if w is None else np.asarray(w, np.float32)
    values = np.broadcast_to(styles, (LAYERS, Z)) + np.asarray(noise, np.float32)
    levels: NDArray[Any] = np.clip(values * 20 + 128, 0, 255)
    return levels.astype(np.uint8)[..., None]


def write_golden(folder: Path, judge: Path | None = None) -> Golden:
    """Gives a generator's version its golden statistics, and a judge from a file, as its export does."""
    spec = read_manifest(folder)
    assert spec is not None
    judging = None
    if judge is not None:
        found = read_judge(judge, judge.name, JudgeWanted(str(judge)))
        judging = open_judge(found, spec, folder / JUDGE, folder.parent, int(folder.name))
    golden = measure_golden(spec, open_session(folder / ONNX), judging)
    if judging is not None:
        spec = replace(spec, judge=judging.spec, files={**spec.files, JUDGE: sha256_of(folder / JUDGE)})
    (folder / MANIFEST).write_text(replace(spec, golden=golden).to_json())
    return golden


def write_translator(repository: Path, name: str, multiple_px: int = 4, **changes: Any) -> Spec:
    """Image-to-image with instance norm and a coarse path, which makes it fail on sizes that are no multiple."""
    spec = Spec(
        task=Task.IMAGE_TO_IMAGE,
        architecture="test",
        hyperparameters={},
        tensors="uint8",
        precision="fp32",
        opset=18,
        inputs=(TensorSpec("image", "UINT8", (-1, -1, 3)),),
        outputs=(TensorSpec("translated", "UINT8", (-1, -1, 3)),),
        image_shape=(0, 0, 3),
        provenance=PROVENANCE,
        parity=Parity(1.0, 0.0, (1,), (0,)),
        multiple_px=multiple_px,
    )
    nodes: list[Node] = [
        ("Cast", ["image"], "levels", {"to": TensorProto.FLOAT}),
        ("Transpose", ["levels"], "planes", {"perm": [0, 3, 1, 2]}),
        ("InstanceNormalization", ["planes", "gains", "offsets"], "normal", {}),
        ("AveragePool", ["normal"], "coarse", {"kernel_shape": [multiple_px] * 2, "strides": [multiple_px] * 2}),
        ("Resize", ["coarse", "", "scales"], "wide", {"mode": "nearest"}),
        ("Add", ["normal", "wide"], "both", {}),
        ("Clip", ["both", "black", "white"], "clipped", {}),
        ("Transpose", ["clipped"], "interleaved", {"perm": [0, 2, 3, 1]}),
        ("Cast", ["interleaved"], "translated", {"to": TensorProto.UINT8}),
    ]
    constants = {
        "gains": np.full(3, 30, np.float32), "offsets": np.full(3, 60, np.float32),
        "scales": np.array([1, 1, multiple_px, multiple_px], np.float32),
        "black": np.float32(0), "white": np.float32(255),
    }  # fmt: skip
    return _write(repository, name, spec, nodes, constants, changes)


def write_upscaler(repository: Path, name: str, channels: int = 0, **changes: Any) -> Spec:
    """Super-resolution: every pixel four times, image (N, H, W, 3) uint8 -> upscaled (N, 2 H, 2 W, 3).

    `channels`: of a convolution before that, which changes nothing, but takes as much memory as a network's.
    """
    spec = Spec(
        task=Task.SUPER_RESOLUTION,
        architecture="test",
        hyperparameters={},
        tensors="uint8",
        precision="fp32",
        opset=18,
        inputs=(TensorSpec("image", "UINT8", (-1, -1, 3)),),
        outputs=(TensorSpec("upscaled", "UINT8", (-1, -1, 3)),),
        image_shape=(0, 0, 3),
        provenance=PROVENANCE,
        parity=Parity(1.0, 0.0, (1,), (0,)),
        scale=2,
        tile=Tile(64, 4, 1, 2, 0.0),
    )
    constants = {"scales": np.array([1, 2, 2, 1], np.float32)}
    if not channels:
        nodes: list[Node] = [("Resize", ["image", "", "scales"], "upscaled", {"mode": "nearest"})]
        return _write(repository, name, spec, nodes, constants, changes)
    nodes = [
        ("Cast", ["image"], "levels", {"to": TensorProto.FLOAT}),
        ("Transpose", ["levels"], "planes", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["planes", "apart"], "features", {}),
        ("Relu", ["features"], "positive", {}),
        ("Conv", ["positive", "together"], "same", {}),
        ("Transpose", ["same"], "interleaved", {"perm": [0, 2, 3, 1]}),
        ("Cast", ["interleaved"], "pixels", {"to": TensorProto.UINT8}),
        ("Resize", ["pixels", "", "scales"], "upscaled", {"mode": "nearest"}),
    ]
    constants["apart"] = np.eye(channels, 3, dtype=np.float32)[..., None, None]
    constants["together"] = np.eye(3, channels, dtype=np.float32)[..., None, None]
    return _write(repository, name, spec, nodes, constants, changes)


def add_critic(repository: Path, name: str, spec: Spec, quantiles: tuple[tuple[float, ...], ...]) -> None:
    """Writes version 2 of a styled generator, with a critic: the mean level, and ten times the label."""
    nodes: list[Node] = [
        ("Cast", ["image"], "levels", {"to": TensorProto.FLOAT}),
        ("ReduceMean", ["levels", "axes"], "mean", {"keepdims": 0}),
        ("Cast", ["label"], "kind", {"to": TensorProto.FLOAT}),
        ("Mul", ["kind", "ten"], "tens", {}),
        ("Add", ["mean", "tens"], "score", {}),
    ]
    inputs = (TensorSpec("image", "UINT8", spec.image_shape), TensorSpec("label", "INT64", ()))
    graph = _graph(
        name, inputs, (TensorSpec("score", "FP32", ()),), nodes, {"axes": np.array([1, 2, 3]), "ten": np.float32(10)}
    )
    files = {ONNX: repository / f"{name}.onnx", CRITIC: repository / f"{name}-critic.onnx"}
    shutil.copy(repository / name / "1" / ONNX, files[ONNX])
    onnx.save(graph, files[CRITIC])
    critic = CriticSpec("mean", {}, True, PROVENANCE, Parity(1e-3, 0.0, (1,), (0,)), 256, quantiles)
    config = (repository / name / "config.pbtxt").read_text()
    write_version(repository, name, 2, replace(spec, critic=critic), files, config)


def _write(
    repository: Path,
    name: str,
    spec: Spec,
    nodes: list[Node],
    constants: dict[str, Any],
    changes: dict[str, Any],
) -> Spec:
    model = _graph(name, spec.inputs, spec.outputs, nodes, constants)
    repository.mkdir(parents=True, exist_ok=True)
    path = repository / f"{name}.onnx"
    onnx.save(model, path)
    written = Spec(**{**{field: getattr(spec, field) for field in Spec.__dataclass_fields__}, **changes})
    write_version(repository, name, 1, written, {ONNX: path}, config_pbtxt(name, written.inputs, written.outputs, 8))
    return written


def _graph(
    name: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    nodes: list[Node],
    constants: dict[str, Any],
) -> onnx.ModelProto:
    def described(tensor: TensorSpec) -> Any:
        axes = [axis if axis >= 0 else f"{tensor.name}{i}" for i, axis in enumerate(tensor.shape)]
        return helper.make_tensor_value_info(tensor.name, TYPES[tensor.dtype], ["N", *axes])

    graph = helper.make_graph(
        [helper.make_node(kind, ins, [out], **attributes) for kind, ins, out, attributes in nodes],
        name,
        [described(tensor) for tensor in inputs],
        [described(tensor) for tensor in outputs],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model
