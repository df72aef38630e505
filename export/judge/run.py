"""A judge at work at export: its features and classes of the generator's own images, and the file beside the model."""

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from artifact.repository import JUDGE, ArtifactError, read_manifest, sha256_of
from artifact.spec import JudgeSpec, Spec, SpecError
from export.directions.centers import k_means
from export.errors import ExportError
from export.graph.trace import save
from export.judge.find import FEATURES, SCORES, FoundJudge
from export.judge.graph import brought, group_scores, groups_of, with_groups


class Judge:
    """Looks at the model's images in `see`; `finish` says what it saw.

    Args:
        proto: its graph, brought to the model's images.
        path: where its graph is written to.
        kept: the graph and what the manifest says of it, of an earlier version's judge that was made from the same
            file in the same way: its groups are kept, so that the versions can be compared.
    """

    def __init__(
        self, found: FoundJudge, proto: onnx.ModelProto, path: Path, kept: tuple[bytes, JudgeSpec] | None
    ) -> None:
        self._found, self._proto, self._path, self._kept = found, proto, path, kept
        self.spec: JudgeSpec | None = None  # what the manifest says of it, once it has finished
        try:
            self._session = onnxruntime.InferenceSession(
                proto.SerializeToString() if kept is None else kept[0], providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own, from C++
            raise ExportError(f"the judge cannot be opened: {str(error).splitlines()[0][:300]}") from None
        self._features: list[NDArray[np.float32]] = []
        self._scores: list[NDArray[np.float32]] = []

    def see(self, images: NDArray[np.uint8]) -> None:
        """(N, H, W, C).

        Raises:
            ExportError: it cannot run, or gives something else than a vector of finite numbers for each.
        """
        names = [output.name for output in self._session.get_outputs()]
        try:
            given = dict(zip(names, self._session.run(names, {"image": images}), strict=True))
        except Exception as error:  # onnxruntime's own, from C++
            raise ExportError(f"the judge cannot run: {str(error).splitlines()[0][:300]}") from None
        if any(len(each) != len(images) or not np.isfinite(each).all() for each in given.values()):
            raise ExportError("the judge must give a vector of finite numbers for each image")
        self._features.append(given[FEATURES])
        if SCORES in given:
            self._scores.append(given[SCORES])

    def finish(self) -> tuple[list[int], tuple[str, int]]:
        """Writes the graph. The class of each image that it saw; what golden statistics call it, and how many classes
        it has.

        Raises:
            ExportError: it has other classes than it says.
        """
        features, found, path = np.concatenate(self._features), self._found, self._path
        if self._kept is not None:
            path.write_bytes(self._kept[0])
            spec, scores = self._kept[1], np.concatenate(self._scores)
        elif self._scores:
            save(self._proto, path)
            spec = JudgeSpec(found.classes, features.shape[1], False, found.provenance)
            scores = np.concatenate(self._scores)
        else:
            names = tuple(f"group {number}" for number in range(1, groups_of(len(features)) + 1))
            centres = k_means(features.astype(np.float64), len(names))[0].astype(np.float32)
            save(with_groups(self._proto, centres), path)
            spec = JudgeSpec(names, features.shape[1], True, found.provenance)
            scores = group_scores(features, centres)
        if scores.shape[1] != len(spec.classes):
            raise ExportError(f"the judge gives {scores.shape[1]} scores, and has {len(spec.classes)} classes")
        self.spec = spec
        called = sha256_of(path) if spec.grouped else spec.provenance.sha256
        return scores.argmax(axis=1).tolist(), (called, len(spec.classes))


def open_judge(found: FoundJudge, spec: Spec, path: Path, model: Path, version: int) -> Judge:
    """The judge for a generator, whose graph will be written to `path`.

    Args:
        model: the model's folder in the repository, of which versions before this one may have the same judge.

    Raises:
        ExportError: it does not fit the images, or cannot be opened.
    """
    proto = brought(found, spec.image_shape)
    return Judge(found, proto, path, None if found.outputs[1] else _kept(found, proto, spec, model, version))


def _kept(
    found: FoundJudge, proto: onnx.ModelProto, spec: Spec, model: Path, version: int
) -> tuple[bytes, JudgeSpec] | None:
    """Of the newest earlier version whose judge was made from the same file, for the same pixels."""
    numbers = [int(each.name) for each in model.glob("*") if re.fullmatch("[0-9]{1,18}", each.name)]
    for number in sorted((each for each in numbers if each < version), reverse=True):
        folder = model / str(number)
        try:
            earlier = read_manifest(folder)
            judge = None if earlier is None else earlier.judge
            if earlier is None or judge is None or not judge.grouped or earlier.image_shape != spec.image_shape:
                continue
            is_same = judge.provenance.sha256 == found.provenance.sha256
            if is_same and sha256_of(folder / JUDGE) == earlier.files.get(JUDGE):
                graph = (folder / JUDGE).read_bytes()
                if _begins_with(graph, proto):
                    return graph, judge
        except (ArtifactError, SpecError, OSError, DecodeError):
            continue
    return None


def _begins_with(graph: bytes, proto: onnx.ModelProto) -> bool:
    """Whether a graph with groups was made of this one, which another range of pixels makes another."""
    kept, own = onnx.ModelProto.FromString(graph).graph, proto.graph
    return all(
        list(theirs[: len(ours)]) == list(ours)
        for theirs, ours in ((kept.node, own.node), (kept.initializer, own.initializer))
    )
