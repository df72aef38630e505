"""The ONNX files of one version, each compared with torch before it counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
from torch import nn

from artifact.repository import ONNX, ONNX_FP32
from export.graph.finite_flag import flagged
from export.graph.half_precision import FORMATS, REFUSED, reduced
from export.graph.parity import Figures, measure, open_session, worse
from export.graph.pixels import wrap
from export.graph.rounding import rounded
from export.graph.samples import inputs
from export.graph.trace import OPSET, save, to_onnx
from models.architecture import Generator

ENGINE_SOURCE = "engine-source.onnx"


@dataclass(frozen=True)
class Graphs:
    """What was written and found.

    `files`: those of the version, by name. `engine_source`: the graph that a TensorRT engine is built from; one of
    `files`, or in bf16, which ONNX Runtime cannot run, a graph for that alone. `session`, `figures`: of `model.onnx`.
    `notes`: what the user should know.
    """

    files: Mapping[str, Path]
    engine_source: Path
    session: onnxruntime.InferenceSession
    figures: Figures
    notes: tuple[str, ...]


def write_graphs(
    generator: Generator, tensors: str, precision: str, folder: Path, progress: Callable[[str], None]
) -> Graphs:
    """Writes the version's graphs into `folder`.

    fp32: `model.onnx`. fp16: `model.onnx` in float16 and `model.fp32.onnx`. bf16: `model.onnx` in float32, and the
    engine's graph. All but a lone fp32 graph say which rows are finite (see `export.finite`).

    Raises:
        ExportError: torch cannot trace the network, or a graph is not as close to it as its precision must be.
    """
    writing = _Writing(wrap(generator, tensors), generator, tensors, folder, progress)
    progress(f"tracing to ONNX, opset {OPSET}")
    proto = to_onnx(writing.module, generator, tensors, inputs(generator, tensors, (0, 1)))
    if precision == "fp32":
        session, figures = writing.written(proto, ONNX, "fp32")
        return Graphs({ONNX: folder / ONNX}, folder / ONNX, session, figures, (f"parity: {figures}",))
    low = flagged(reduced(proto, precision))
    simulated = writing.compared(open_session(rounded(low, precision)), precision)
    if precision == "fp16":
        session, figures = writing.written(low, ONNX, "fp16")
        figures = worse(figures, simulated)
        writing.written(flagged(proto), ONNX_FP32, "fp32")
        files = {name: folder / name for name in (ONNX, ONNX_FP32)}
        return Graphs(files, folder / ONNX, session, figures, _notes(proto, precision, figures))
    session, figures = writing.written(flagged(proto), ONNX, "fp32")
    save(low, folder / ENGINE_SOURCE)
    notes = (f"parity of {ONNX}, fp32: {figures}", *_notes(proto, precision, simulated))
    return Graphs({ONNX: folder / ONNX}, folder / ENGINE_SOURCE, session, figures, notes)


@dataclass(frozen=True)
class _Writing:
    """What every graph of a version is made and compared with."""

    module: nn.Module
    generator: Generator
    tensors: str
    folder: Path
    progress: Callable[[str], None]

    def written(
        self, proto: onnx.ModelProto, name: str, precision: str
    ) -> tuple[onnxruntime.InferenceSession, Figures]:
        """The graph as a file, opened and compared."""
        save(proto, self.folder / name)
        session = open_session(self.folder / name)
        return session, self.compared(session, precision, f"{name}: ONNX Runtime")

    def compared(
        self, session: onnxruntime.InferenceSession, precision: str, who: str = "the graph rounded after every node"
    ) -> Figures:
        figures = measure(session, self.module, self.generator, self.tensors, precision)
        parity = figures.parity
        self.progress(
            f"{who} agrees with torch: largest difference {parity.max_difference:.3g} "
            f"(tolerance {parity.tolerance:.3g}), batches of {' and '.join(map(str, parity.batch_sizes))}"
        )
        return figures


def _notes(proto: onnx.ModelProto, precision: str, figures: Figures) -> tuple[str, ...]:
    word = FORMATS[precision].word
    notes = [
        f"parity in {precision}: {figures}; measured on the CPU, in float32 with every weight and every operator's "
        f"result rounded to {word}: a GPU rounds in other places too"
    ]
    kept = sorted({node.op_type for node in proto.graph.node} & set(REFUSED[precision]))
    if kept:
        notes.append(f"{', '.join(kept)} stays float32: TensorRT does not build it in {word}")
    return tuple(notes)
