"""Images -> features: an ONNX graph of any network, or the Inception network that the word FID stands for."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ganserve.evaluation.errors import EvaluationError
from ganserve.evaluation.images import batch

# Read when onnxruntime is imported, which otherwise writes a device id and sends usage data.
os.putenv("ORT_DISABLE_TELEMETRY", "1")

BATCH = 32
MAX_BYTES = 2 << 30  # of all features
RANGES = {"-1..1": (2 / 255, -1.0), "0..1": (1 / 255, 0.0), "0..255": (1.0, 0.0)}
# pt_inception-2015-12-05-6726825d.pth, weights-inception-2015-12-05-6726825d.pth: TensorFlow's network of that day, as
# pytorch-fid and torch-fidelity take it. Published FIDs are of these weights.
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


class Extractor(Protocol):
    """A network.

    Attributes:
        name: as figures are labelled.
        sha256: of its file.
        is_inception: whether Frechet distances of its features are FIDs.
        channels: 1, 3, or 4 with alpha.
        size: height and width that it takes; None: any.
    """

    name: str
    sha256: str
    is_inception: bool
    channels: int
    size: tuple[int, int] | None

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, K) of (N, H, W, channels)."""


def open_judge(graph: bytes, name: str, classes: tuple[str, ...]) -> "Graph":
    """The judge beside a model, as the server sends it. `classes`: their names.

    Raises:
        EvaluationError: it is no such graph.
        ModuleNotFoundError: onnxruntime is not installed.
    """
    return Graph(graph, name, hashlib.sha256(graph).hexdigest(), None, classes)


def open_extractor(path: Path, name: str, pixels: str | None) -> Extractor:
    """The network of a file, by its content.

    Args:
        path: an ONNX graph, or the standard Inception file.
        name: as figures are labelled.
        pixels: one of RANGES, for graphs that take floats.

    Raises:
        EvaluationError: it is neither, or not a graph from one image to one vector.
        ModuleNotFoundError: onnxruntime is not installed.
    """
    if not path.is_file():
        raise EvaluationError(f"--features {path}: no such file")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest == INCEPTION_SHA256:
        return Inception(path)
    if path.suffix.lower() in (".pth", ".pt", ".pkl", ".safetensors", ".ckpt"):
        raise EvaluationError(
            f"--features {path}: must be an ONNX graph, or the standard Inception file, whose sha256 is "
            f"{INCEPTION_SHA256}; this one's is {digest}"
        )
    return Graph(path, name, digest, pixels)


class Graph:
    """An ONNX graph with one input, uint8 or float32, NHWC or NCHW of 1, 3 or 4 channels; its output `features`, or
    else its first, flattened.

    Attributes:
        classes: that it names by its output `scores`; none: it has no such output.
    """

    is_inception = False

    def __init__(
        self, path: Path | bytes, name: str, digest: str, pixels: str | None, classes: tuple[str, ...] = ()
    ) -> None:
        import onnxruntime

        self.name, self.sha256 = name, digest
        self._given = f"--features {path}" if isinstance(path, Path) else f"the model's judge, {name}"
        try:
            self._session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # of onnxruntime's own, from C++
            text = str(error).splitlines()[0]
            raise EvaluationError(f"{self._given}: cannot be read as an ONNX graph: {text}") from None
        outputs = [output.name for output in self._session.get_outputs()]
        self.classes = (classes or self._own_classes()) if "scores" in outputs else ()
        self._outputs = ["features" if "features" in outputs else outputs[0], *(["scores"] if self.classes else [])]
        self.named: list[int] = []  # the class of each image that was looked at
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            shapes = ", ".join(f"{each.name} {each.shape}" for each in inputs)
            raise EvaluationError(f"{self._given}: must take one batch of images (4 axes); takes {shapes}")
        self._input = inputs[0]
        shape = self._input.shape
        colours = (1, 3) if shape[1] in (1, 3) or shape[3] in (1, 3) else (4,)
        self._is_last = shape[3] in colours and shape[1] not in colours
        if not self._is_last and shape[1] not in colours:
            raise EvaluationError(f"{self._given}: input {shape}: neither NHWC nor NCHW with 1, 3 or 4 channels")
        self.channels = shape[3] if self._is_last else shape[1]
        height, width = shape[1:3] if self._is_last else shape[2:4]
        self.size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        self._fixed = shape[0] if isinstance(shape[0], int) else None
        self._scale = self._scale_of(pixels)

    def _own_classes(self) -> tuple[str, ...]:
        """As the zoo's judges have them in their metadata."""
        try:
            names = json.loads(self._session.get_modelmeta().custom_metadata_map.get("classes", "[]"))
        except ValueError:
            return ()
        is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return tuple(names) if is_list else ()

    def _scale_of(self, pixels: str | None) -> tuple[float, float] | None:
        if self._input.type == "tensor(uint8)":
            if pixels is not None:
                raise EvaluationError(f"{self._given}: takes uint8; leave out --pixels")
            return None
        if self._input.type != "tensor(float)":
            raise EvaluationError(f"{self._given}: takes {self._input.type}; must be uint8 or float32")
        if pixels is None:
            raise EvaluationError(
                f"{self._given}: takes float32, and no file says of which range: give --pixels {', '.join(RANGES)}"
            )
        return RANGES[pixels]

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, K) float32."""
        given: Any = images if self._is_last else images.transpose(0, 3, 1, 2)
        if self._scale is not None:
            scale, offset = self._scale
            given = given.astype(np.float32) * np.float32(scale) + np.float32(offset)
        size = self._fixed or len(given)
        found = [self._run(given[start : start + size], size) for start in range(0, len(given), size)]
        return np.concatenate(found)

    def _run(self, given: Any, size: int) -> NDArray[np.float32]:
        missing = size - len(given)
        full = np.concatenate([given, np.repeat(given[-1:], missing, 0)]) if missing else given
        output, *scores = self._session.run(self._outputs, {self._input.name: np.ascontiguousarray(full)})
        for each in scores:
            self.named += each[: len(given)].argmax(axis=1).tolist()
        return np.asarray(output, np.float32).reshape(size, -1)[: len(given)]


class Inception:
    """The 2048 features before the last layer, computed by torch-fidelity, which resizes as TensorFlow did."""

    name, sha256, is_inception, channels = "inception-v3 2015-12-05", INCEPTION_SHA256, True, 3
    size: tuple[int, int] | None = None

    def __init__(self, path: Path) -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ModuleNotFoundError as error:
            raise EvaluationError(
                f"{path} is the standard Inception file: pip install torch-fidelity  ({error})"
            ) from None

        import torch

        self._torch = torch
        self._network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
        )

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, 2048) float32."""
        with self._torch.no_grad():
            (features,) = self._network(self._torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        return np.asarray(features.numpy(), np.float32)


def features_of(
    extractor: Extractor,
    images: Iterable[NDArray[np.uint8]],
    count: int,
    size: tuple[int, int] | None,
) -> NDArray[np.float32]:
    """(count, K) of images (H, W, C), of which a batch is held at a time.

    Raises:
        EvaluationError: more features than MAX_BYTES, or a figure that is not finite.
    """
    found: NDArray[np.float32] | None = None
    done = 0
    for some in _batches(images):
        part = extractor(batch(some, extractor.channels, extractor.size or size))
        if found is None:
            if 4 * count * part.shape[1] > MAX_BYTES:
                most = MAX_BYTES // (4 * part.shape[1])
                raise EvaluationError(f"{count} images of {part.shape[1]} features; at most {most} fit into 2 GiB")
            found = np.empty((count, part.shape[1]), np.float32)
        found[done : done + len(part)] = part
        done += len(part)
    assert found is not None, "at least one image"
    if not np.isfinite(found).all():
        raise EvaluationError(f"{extractor.name}: a feature is not finite")
    return found


def _batches(images: Iterable[NDArray[np.uint8]]) -> Iterator[Sequence[NDArray[np.uint8]]]:
    each = iter(images)
    while some := list(islice(each, BATCH)):
        yield some
