"""A generator in two graphs, as StyleGANs are often exported: one makes w from a latent, the other images from w.

They become one graph, with truncation towards the mean of w, that also takes w itself; `mapping.onnx` lies beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from artifact.spec import Task
from export.adopt.amend import fix_inputs
from export.adopt.plain import Plain, RunError, latent_size, latents, own_label, own_latent
from export.adopt.read import opset_of, read_graph
from export.adopt.roles import (
    PSI,
    REALS,
    W_GIVEN,
    Adoption,
    Roles,
    Tensor,
    W,
    classes_of,
    inputs_of,
    latent_of,
    listed,
    named,
    noise_of,
    only_label,
    outputs_of,
)
from export.adopt.wrap import Around, Core, with_free_axes
from export.errors import ExportError

SAMPLES = 4096  # of w, for its mean
SEEDS = (0, 1, 2)
BEFORE, AFTER = "mapping/", "synthesis/"
TOLERANCE = 1e-4  # of w, whose values are about 1

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class MappingGraph:
    """The graph that makes w, without truncation.

    `shape`: (layers, length) of w as the synthesis graph takes it; `given_layers`: 1 if the graph makes one w for all
    of them. `mean`: (*shape) of the w of many latents.
    """

    proto: onnx.ModelProto
    roles: Roles  # `output` is w
    shape: tuple[int, int]
    given_layers: int
    mean: FloatArray

    def w(self, seeds: Sequence[int]) -> FloatArray:
        """(N, layers or 1, length), one after the other."""
        return _run(self.proto, self.roles, seeds)


def join(proto: onnx.ModelProto, said: Adoption) -> tuple[onnx.ModelProto, Adoption, MappingGraph]:
    """The synthesis graph `proto` with the mapping graph before it; what is to be said of both as one; and the latter.

    Raises:
        ExportError: they do not fit, or it cannot be told what their inputs are.
    """
    assert said.mapping is not None
    other = read_graph(said.mapping)
    if opset_of(other) != opset_of(proto):
        raise ExportError(
            f"--mapping {said.mapping.name}: of opset {opset_of(other)}, and the other graph of {opset_of(proto)}; "
            "export both alike"
        )
    ours, theirs = ({tensor.name for tensor in inputs_of(one)} for one in (proto, other))
    fix_inputs(other, {name: value for name, value in said.fixed.items() if name in theirs})
    fix_inputs(proto, {name: value for name, value in said.fixed.items() if name in ours or name not in theirs})
    w = _w_of(inputs_of(proto), said)
    mapping = _mapping(other, w, said)
    roles = mapping.roles
    assert roles.latent is not None
    return (
        _joined(mapping, proto, w),
        replace(
            said,
            latent=BEFORE + roles.latent.name,
            label=BEFORE + roles.label.name if roles.label else None,
            classes=roles.classes or None,
            image=said.image and AFTER + said.image,
            noise=tuple(AFTER + name for name in said.noise),
            truncation=PSI,
            fixed={},
        ),
        mapping,
    )


def served_mapping(mapping: MappingGraph) -> onnx.ModelProto:
    """`mapping.onnx`: `latent`, `label` if there are classes, `truncation_psi` (N, layers) -> `w` (N, layers, length).

    Raises:
        ExportError: it differs from the graph as it came, or needs a batch of 1.
    """
    layers, length = mapping.shape
    around, proto = _opened(mapping, served=True)
    around.node("Identity", _truncated(around, mapping, [-1, layers, 1]), output=W)
    latent = helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["N", latent_size(_latent(mapping))])
    label = [helper.make_tensor_value_info("label", TensorProto.INT64, ["N"])] if mapping.roles.label else []
    psi = helper.make_tensor_value_info(PSI, TensorProto.FLOAT, ["N", layers])
    w = helper.make_tensor_value_info(W, TensorProto.FLOAT, ["N", layers, length])
    made = _made(around, proto, [], [latent, *label, psi], [w])
    _require_same(mapping, made)
    return made


def _w_of(inputs: list[Tensor], said: Adoption) -> Tensor:
    """The input of the synthesis graph that takes w."""
    noise = noise_of(inputs, said.noise)
    rest = [one for one in inputs if one not in noise]
    if len(rest) != 1 or len(rest[0].shape) not in (2, 3) or rest[0].shape[-1] < 1 or rest[0].element_type not in REALS:
        raise ExportError(
            f"--mapping: the graph takes {listed(rest)}; besides noise it must take w alone, (N, length) or (N, "
            "layers, length): say --noise NAME of noise, --fix NAME=NUMBER of others"
        )
    return rest[0]


def _mapping(proto: onnx.ModelProto, w: Tensor, said: Adoption) -> MappingGraph:
    assert said.mapping is not None
    name, inputs, mean = said.mapping.name, inputs_of(proto), None
    psi = named(inputs, said.truncation, "--truncation") if said.truncation else None
    inputs = [one for one in inputs if one != psi]
    label = named(inputs, said.label, "--label") if said.label else only_label(inputs)
    latent = latent_of(inputs, label, said)
    if others := [one for one in inputs if one not in (latent, label)]:
        raise ExportError(
            f"--mapping {name}: takes also {listed(others)}; of truncation psi say --truncation NAME, of others "
            f"--fix {others[0].name}=NUMBER"
        )
    given = [
        one for one in outputs_of(proto) if one.element_type in REALS and one.shape[-1:] in ((), (-1,), w.shape[-1:])
    ]
    if len(given) != 1:
        raise ExportError(f"--mapping {name}: gives {listed(outputs_of(proto))}, must give one w for {w}")
    roles = Roles(Task.UNCONDITIONAL, given[0], latent, label, classes_of(label, said))
    try:
        if psi is not None:
            mean = _mean_of_psi(proto, roles, psi)
            fix_inputs(proto, {psi.name: 1.0})
        found = _run(proto, roles, range(SAMPLES) if mean is None else SEEDS)
    except RunError as error:
        raise ExportError(f"--mapping {name}: does not run with one latent: {error}") from None
    layers = {found.shape[1], w.shape[1] if len(w.shape) == 3 else 1} - {-1}
    if len(layers - {1}) > 1 or (len(w.shape) == 2 and layers != {1}) or found.shape[2] != w.shape[-1]:
        raise ExportError(f"--mapping {name}: gives w of {found.shape[1]} layers and {found.shape[2]} values, not {w}")
    shape = max(layers), found.shape[2]
    middle = (found if mean is None else mean).mean(axis=0, dtype=np.float64).astype(np.float32)
    return MappingGraph(proto, roles, shape, found.shape[1], np.broadcast_to(middle, shape))


def _mean_of_psi(proto: onnx.ModelProto, roles: Roles, psi: Tensor) -> FloatArray:
    """The w that psi 0 makes of every latent."""
    middle = onnx.ModelProto.FromString(proto.SerializeToString())
    fix_inputs(middle, {psi.name: 0.0})
    found = _run(middle, roles, SEEDS)
    if float(np.ptp(found, axis=0).max()) > TOLERANCE * max(1.0, float(np.abs(found).max())):
        raise ExportError(
            f"--truncation {psi.name}: with 0 there not every latent has one w, so it is no truncation; give it one "
            f"value: --fix {psi.name}=1"
        )
    return found


def _run(proto: onnx.ModelProto, roles: Roles, seeds: Sequence[int]) -> FloatArray:
    """w (N, layers, length) of each seed alone.

    Raises:
        RunError: the graph does not run.
    """
    assert roles.latent is not None
    plain = Plain(with_free_axes(proto, (0,), False), optimised=len(seeds) > len(SEEDS))
    found = []
    for seed in seeds:
        item: dict[str, NDArray[np.generic]] = {roles.latent.name: own_latent(roles.latent, (seed,))}
        if roles.label is not None:
            item[roles.label.name] = own_label(roles.label, (seed % roles.classes,), roles.classes)
        found.append(plain.run(item, roles.output.name).astype(np.float32))
    if found[0].ndim not in (2, 3) or len(found[0]) != 1:
        raise RunError(f"it gives {'x'.join(map(str, found[0].shape))}, must give (1, length) or (1, layers, length)")
    w = np.concatenate(found)
    if not np.isfinite(w).all():
        raise RunError("it gives NaN or infinity")
    return w.reshape(len(w), -1, w.shape[-1])


def _latent(mapping: MappingGraph) -> Tensor:
    assert mapping.roles.latent is not None
    return mapping.roles.latent


def _opened(mapping: MappingGraph, served: bool) -> tuple[Around, onnx.ModelProto]:
    """(what is put around the graph, the graph under its prefix); `served`: with the inputs that clients send."""
    proto = onnx.compose.add_prefix(mapping.proto, BEFORE)
    roles = mapping.roles
    label = roles.label and replace(roles.label, name=BEFORE + roles.label.name)
    core = Core(proto, replace(roles, label=label), "NCHW", (0.0, 1.0))
    around = Around(core)
    if served:
        around.take("latent", replace(_latent(mapping), name=BEFORE + _latent(mapping).name))
        if label is not None:
            around.take("label", label)
    around.nodes.extend(proto.graph.node)
    return around, proto


def _truncated(around: Around, mapping: MappingGraph, psi_shape: list[int]) -> str:
    """w (N, layers, length): so far from its mean as psi says."""
    w = around.node("Cast", BEFORE + mapping.roles.output.name, to=TensorProto.FLOAT)
    w = around.node("Reshape", w, around.constant([-1, mapping.given_layers, mapping.shape[1]], np.int64))
    mean = around.constant(mapping.mean[None])
    psi = around.node("Reshape", PSI, around.constant(psi_shape, np.int64))
    return around.node("Add", around.node("Mul", around.node("Sub", w, mean), psi), mean)


def _joined(mapping: MappingGraph, synthesis: onnx.ModelProto, w: Tensor) -> onnx.ModelProto:
    layers, length = mapping.shape
    around, before = _opened(mapping, served=False)
    after = onnx.compose.add_prefix(synthesis, AFTER)
    made = _truncated(around, mapping, [-1, 1, 1])
    given = around.node("Reshape", W_GIVEN, around.constant([-1, 1, 1], np.int64))
    own = around.node("Mul", made, around.node("Sub", around.constant(1.0), given))
    found = around.node("Add", own, around.node("Mul", W, given))
    found = around.node(
        "Reshape", found, around.constant([-1, *((layers, length) if len(w.shape) == 3 else (length,))], np.int64)
    )
    around.node("Cast", found, to=w.element_type, output=AFTER + w.name)
    around.nodes.extend(after.graph.node)
    floats = [
        helper.make_tensor_value_info(PSI, TensorProto.FLOAT, ["N"]),
        helper.make_tensor_value_info(W, TensorProto.FLOAT, ["N", layers, length]),
        helper.make_tensor_value_info(W_GIVEN, TensorProto.FLOAT, ["N"]),
    ]
    theirs = {AFTER + tensor.name for tensor in inputs_of(synthesis)} - {AFTER + w.name}
    names = theirs | {BEFORE + tensor.name for tensor in inputs_of(mapping.proto)}
    inputs = [value for value in (*before.graph.input, *after.graph.input) if value.name in names]
    return _made(around, before, [after], [*inputs, *floats], list(after.graph.output))


def _made(
    around: Around, proto: onnx.ModelProto, others: list[onnx.ModelProto], inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:  # fmt: skip
    weights = [tensor for one in (proto, *others) for tensor in one.graph.initializer]
    graph = helper.make_graph(around.nodes, "adopted", inputs, outputs, [*weights, *around.weights])
    opsets = {entry.domain: entry for one in (proto, *others) for entry in one.opset_import}
    version = max(4, *(one.ir_version for one in (proto, *others)))
    made = helper.make_model(graph, opset_imports=list(opsets.values()), ir_version=version)
    onnx.checker.check_model(made)
    return made


def _require_same(mapping: MappingGraph, made: onnx.ModelProto) -> None:
    """Compares `mapping.onnx`, run on several latents at once, with the graph as it came."""
    psi = np.linspace(1.0, 0.2, mapping.shape[0], dtype=np.float32)
    expected = mapping.mean + psi[:, None] * (mapping.w(SEEDS) - mapping.mean)
    given: dict[str, NDArray[np.generic]] = {"latent": latents(SEEDS, latent_size(_latent(mapping)))}
    if mapping.roles.label is not None:
        given["label"] = np.array([seed % mapping.roles.classes for seed in SEEDS], np.int64)
    given[PSI] = np.broadcast_to(psi, (len(SEEDS), len(psi)))
    try:
        found = Plain(made, optimised=True).run(given, W)
    except RunError as error:
        raise ExportError(f"--mapping: does not run with several latents at once: {error}") from None
    if found.shape != expected.shape or not np.allclose(
        found, expected, rtol=0, atol=TOLERANCE * max(1.0, np.abs(expected).max())
    ):
        raise ExportError("--mapping: several latents at once have another w than each alone")
