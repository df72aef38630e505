"""The ONNX files of one version, each compared with torch before it counts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import onnxruntime

from artifact.repository import ONNX, ONNX_FLOAT, ONNX_FP32
from artifact.spec import Parity
from export.graph.finite_flag import add_finite_flag
from export.graph.float_variant import float_references, to_float
from export.graph.half_precision import FORMATS, NOT_BUILT_BY_TENSORRT, to_half_precision
from export.graph.parity import Measurement, Reference, measure, open_session, torch_references, worse
from export.graph.pixels import wrap
from export.graph.rounding import simulate_rounding
from export.graph.samples import sample_inputs
from export.graph.trace import OPSET, save, to_onnx
from models.architecture import Generator

# What is compared: a wrong assumption about the network is in both.
PARITY = "parity of the ONNX graph with the PyTorch network built from this file"
ENGINE_SOURCE = "engine-source.onnx"


@dataclass(frozen=True)
class Graphs:
    """What was written and measured.

    `files`: those of the version, by name. `engine_source`: the graph that a TensorRT engine is built from; one of
    `files`, or in bf16, which ONNX Runtime cannot run, a graph for the engine alone. `session`, `measured`: of
    `model.onnx`. `float_parity`: measured of the graph for images of 16 bits, if there is one. `notes`: what the user
    should know.
    """

    files: Mapping[str, Path]
    engine_source: Path
    session: onnxruntime.InferenceSession
    measured: Measurement
    notes: tuple[str, ...]
    float_parity: Parity | None = None


def write_graphs(
    generator: Generator, tensors: str, precision: str, folder: Path, progress: Callable[[str], None]
) -> Graphs:
    """Writes the version's graphs into `folder`.

    fp32: `model.onnx`. fp16: `model.onnx` in float16 and `model.fp32.onnx`. bf16: `model.onnx` in float32, and the
    engine's graph. In fp16 and bf16 every graph says which items are finite (see `export.graph.finite_flag`). For
    networks from images to images also `model.float.onnx`, in float32 whatever the precision.

    Raises:
        ExportError: torch cannot trace the network, or a graph is not as close to it as its precision must be.
    """
    module = wrap(generator, tensors)
    references = torch_references(module, generator, tensors)
    writer = _Writer(references, generator, tensors, folder, progress)
    progress(f"tracing to ONNX, opset {OPSET}")
    proto = to_onnx(module, generator, tensors, sample_inputs(generator, tensors, (0, 1)))
    graphs = _write_graphs(proto, writer, precision, folder)
    if generator.task.draws or tensors != "uint8" or generator.encode is not None:  # maps of classes have no 16 bits
        return graphs
    writer = replace(writer, references=float_references(generator), tensors="float32")
    _, measured = writer.write(to_float(proto), ONNX_FLOAT, "fp32")
    files = {**graphs.files, ONNX_FLOAT: folder / ONNX_FLOAT}
    return replace(graphs, files=files, float_parity=measured.parity)


def _write_graphs(proto: onnx.ModelProto, writer: "_Writer", precision: str, folder: Path) -> Graphs:
    """Those that compute uint8 images, or tensors."""
    if precision == "fp32":
        session, measured = writer.write(proto, ONNX, "fp32")
        return Graphs({ONNX: folder / ONNX}, folder / ONNX, session, measured, (f"{PARITY}: {measured}",))
    half = add_finite_flag(to_half_precision(proto, precision))
    simulated = writer.compare(open_session(simulate_rounding(half, precision)), precision)
    if precision == "fp16":
        session, measured = writer.write(half, ONNX, "fp16")
        measured = worse(measured, simulated)
        writer.write(add_finite_flag(proto), ONNX_FP32, "fp32")
        files = {name: folder / name for name in (ONNX, ONNX_FP32)}
        return Graphs(files, folder / ONNX, session, measured, _notes(proto, precision, measured))
    session, measured = writer.write(add_finite_flag(proto), ONNX, "fp32")
    save(half, folder / ENGINE_SOURCE)
    notes = (f"{PARITY}, {ONNX}, fp32: {measured}", *_notes(proto, precision, simulated))
    return Graphs({ONNX: folder / ONNX}, folder / ENGINE_SOURCE, session, measured, notes)


@dataclass(frozen=True)
class _Writer:
    """Writes graphs of one network and compares each with torch's references."""

    references: Sequence[Reference]
    generator: Generator
    tensors: str
    folder: Path
    progress: Callable[[str], None]

    def write(
        self, proto: onnx.ModelProto, name: str, precision: str
    ) -> tuple[onnxruntime.InferenceSession, Measurement]:
        """Saves the graph, opens the file and compares it."""
        save(proto, self.folder / name)
        session = open_session(self.folder / name)
        return session, self.compare(session, precision, f"{name}: ONNX Runtime")

    def compare(
        self, session: onnxruntime.InferenceSession, precision: str, what: str = "the graph rounded after every node"
    ) -> Measurement:
        """Compares an open graph."""
        measured = measure(session, self.references, self.generator, self.tensors, precision)
        parity = measured.parity
        self.progress(
            f"{what} agrees with torch: largest difference {parity.max_difference:.3g} "
            f"(tolerance {parity.tolerance:.3g}), batches of {' and '.join(map(str, parity.batch_sizes))}"
        )
        return measured


def _notes(proto: onnx.ModelProto, precision: str, measured: Measurement) -> tuple[str, ...]:
    name = FORMATS[precision].name
    notes = [
        f"{PARITY}, in {precision}: {measured}; measured on the CPU, in float32 with every weight and every operator's "
        f"result rounded to {name}: a GPU rounds in other places too"
    ]
    kept = sorted({node.op_type for node in proto.graph.node} & set(NOT_BUILT_BY_TENSORRT[precision]))
    if kept:
        notes.append(f"{', '.join(kept)} stays float32: TensorRT does not build it in {name}")
    return tuple(notes)
