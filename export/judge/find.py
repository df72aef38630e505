"""What `--judge` asks for: an ONNX graph that names classes or gives features, found and read before anything slow."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from artifact.judged import MAX_CLASSES
from artifact.repository import ArtifactError, read_text, sha256_of
from artifact.spec import Provenance
from export.adopt.read import is_onnx, read_graph
from export.errors import ExportError
from models.zoo.fetch import ZooError
from models.zoo.judges import judge_of

AUTO, NONE = "auto", "none"
FEATURES, SCORES = "features", "scores"
# Of a judge beside its generator: NAME.safetensors, NAME-judge.onnx.
ENDING = "-judge.onnx"
# In the graph's metadata: the names of the classes as a JSON array, and the licence.
CLASSES, LICENCE = "classes", "licence"
PIXELS = ("-1..1", "0..1", "0..255")


@dataclass(frozen=True)
class JudgeWanted:
    """The options of `ganserve export`. `judge`: auto, none or a file; `classes`: a file of names, one a line;
    `pixels`: what a graph of floats takes, of PIXELS."""

    judge: str = NONE
    classes: Path | None = None
    pixels: str | None = None


@dataclass(frozen=True)
class FoundJudge:
    """A graph with one input of images and one vector for each. `outputs`: the names of those with features and scores;
    without scores it names no classes. `pixels`: of PIXELS, for graphs that take floats."""

    proto: onnx.ModelProto
    outputs: tuple[str, str | None]
    classes: tuple[str, ...]
    pixels: str | None
    provenance: Provenance


def check_judge(wanted: JudgeWanted) -> None:
    """Checks what the user names, before anything slow.

    Raises:
        ExportError: a file is not there or no judge, or an option is more than is needed.
    """
    judge = wanted.judge
    if judge not in (AUTO, NONE) and not Path(judge).is_file():
        raise ExportError(f"--judge {judge}: no such file; or auto or none")
    if judge in (AUTO, NONE) and (wanted.classes is not None or wanted.pixels is not None):
        option = "--judge-classes" if wanted.classes is not None else "--judge-pixels"
        raise ExportError(f"{option}: goes with --judge FILE")
    if wanted.classes is not None and not wanted.classes.is_file():
        raise ExportError(f"--judge-classes {wanted.classes}: no such file")
    if judge not in (AUTO, NONE):
        read_judge(Path(judge), f"--judge {judge}", wanted)


def find_judge(
    wanted: JudgeWanted, checkpoint: Path, origin: Provenance, gives_images: bool
) -> tuple[FoundJudge | None, tuple[str, ...]]:
    """The judge that is wanted, None without one; and what the user should know.

    Args:
        checkpoint: the generator's.
        origin: where the generator's weights come from.
        gives_images: whether it gives pixels, from latents.

    Raises:
        ExportError: one was asked for, and is none.
    """
    if wanted.judge == NONE or (wanted.judge == AUTO and not gives_images):
        return None, ()
    if not gives_images:
        raise ExportError(f"--judge {wanted.judge}: a judge is for a generator that gives pixels from latents")
    if wanted.judge != AUTO:
        return read_judge(Path(wanted.judge), f"--judge {wanted.judge}", wanted), ()
    place = checkpoint.absolute()  # `.` has no name
    beside = place.parent / (place.stem + ENDING)
    if not beside.is_file():
        try:
            beside = judge_of(origin.source)
        except ZooError:
            return None, ()
        if not beside.is_file():
            return None, ()
    try:
        return read_judge(beside, beside.name, wanted), ()
    except ExportError as error:
        return None, (f"no judge: {error}; --judge none says that none is wanted",)


def read_judge(path: Path, said: str, wanted: JudgeWanted) -> FoundJudge:
    """The graph in a file; nothing of it was run. `said`: what errors call it.

    Raises:
        ExportError: it is no such graph, or has other classes than `wanted` says.
    """
    if not is_onnx(path):
        raise ExportError(f"{said}: is not an ONNX graph")
    try:
        proto = read_graph(path)
    except ExportError as error:
        raise ExportError(f"{said}: {error}") from None
    pixels = _pixels(proto, said, wanted.pixels)
    classes = _classes(proto, said, wanted.classes)
    licence = _kept(proto, LICENCE) or "not stated in the file"
    outputs = _outputs([output.name for output in proto.graph.output], said, bool(classes))
    return FoundJudge(proto, outputs, classes, pixels, Provenance(path.name, licence, sha256_of(path)))


def _pixels(proto: onnx.ModelProto, said: str, given: str | None) -> str | None:
    initialised = {each.name for each in proto.graph.initializer}
    inputs = [each for each in proto.graph.input if each.name not in initialised]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        raise ExportError(f"{said}: must take one batch of images (4 axes); takes {[each.name for each in inputs]}")
    kind = inputs[0].type.tensor_type.elem_type
    if kind == onnx.TensorProto.UINT8:
        if given is not None:
            raise ExportError(f"{said}: takes uint8; leave out --judge-pixels")
        return None
    if kind != onnx.TensorProto.FLOAT:
        raise ExportError(f"{said}: takes {onnx.TensorProto.DataType.Name(kind)}; must be UINT8 or FLOAT")
    if given is None:
        raise ExportError(f"{said}: takes float32, and no file says of which range: give --judge-pixels {PIXELS}")
    if given not in PIXELS:
        raise ExportError(f"--judge-pixels {given}: must be one of {', '.join(PIXELS)}")
    return given


def _classes(proto: onnx.ModelProto, said: str, file: Path | None) -> tuple[str, ...]:
    """The names of its classes: the user's, or those in its metadata; none without either."""
    if file is not None:
        try:
            text = read_text(file) or ""
        except ArtifactError as error:
            raise ExportError(f"--judge-classes: {error}") from None
        names: list[Any] = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        try:
            kept = json.loads(_kept(proto, CLASSES) or "[]")
        except ValueError:
            kept = None
        names = kept if isinstance(kept, list) else [None]
        if not all(isinstance(name, str) for name in names):
            raise ExportError(f"{said}: its metadata `{CLASSES}` is no JSON array of names")
        if not names:
            return ()
    if not 2 <= len(names) <= MAX_CLASSES or len(set(names)) != len(names):
        raise ExportError(f"{said}: {len(set(names))} different classes of {len(names)}; must be 2 to {MAX_CLASSES}")
    return tuple(names)


def _kept(proto: onnx.ModelProto, key: str) -> str:
    return next((each.value for each in proto.metadata_props if each.key == key), "")


def _outputs(names: Sequence[str], said: str, has_classes: bool) -> tuple[str, str | None]:
    features = FEATURES if FEATURES in names else names[0]
    if not has_classes:
        return features, None
    if len(names) == 1:
        return features, features
    if SCORES not in names:
        raise ExportError(f"{said}: has the outputs {', '.join(names)}, of which one must be called {SCORES}")
    return features, SCORES
