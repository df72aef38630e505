"""Golden statistics of a served graph: what its images are like, for the server to compare its own with."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime

from artifact.golden import MAX_CLASSES, Golden, Points, difference, measure, points_of
from artifact.repository import earlier_golden
from artifact.spec import Spec
from export.directions.space import run_images

# Images: so many, or so many of each class if that is more; fewer if they take longer than this, but not below LEAST.
IMAGES = 256
OF_EACH_CLASS = 8
LIMIT_S = 15.0
LEAST = 24
AT_ONCE = 8
# What users are told of: the alert of the server has the same limit.
FAR = 1.0
# Not those that people try first, so that a server is not compared with its own images.
FIRST_SEED = 1 << 20
# A prime: a few images are of classes far apart, and in the end each has its turn.
_STRIDE = 1_000_003


def add_golden(
    spec: Spec, session: onnxruntime.InferenceSession, model: Path, version: int, progress: Callable[[str], None]
) -> tuple[Spec, tuple[str, ...]]:
    """The spec with the golden statistics of its graph, which gives pixels, and what the user should know of them; of
    models that take an image, without.

    Args:
        model: the model's folder in the repository, whose earlier versions the new one is compared with.
    """
    if not spec.task.draws or spec.tensors != "uint8":
        return spec, ()
    progress("measuring what the images are like")
    golden = measure_golden(spec, session)
    found, earlier = replace(spec, golden=golden), earlier_golden(model, version, golden)
    if earlier is None:
        return found, ()
    number, other = earlier
    far = [f"{name} by {by:.1f}" for name, by in difference(golden, other).items() if by > FAR]
    said = f"its images differ from those of version {number}, in standard deviations of one image: {', '.join(far)}"
    return found, (said,) if far else ()


def measure_golden(spec: Spec, session: onnxruntime.InferenceSession) -> Golden:
    """From images with the model's default truncation, noise of their own and the classes in turn."""
    classes = max(1, len(spec.labels))
    wanted = max(IMAGES, OF_EACH_CLASS * classes) if classes <= MAX_CLASSES else IMAGES
    points, labels, started_at = list[Points](), list[int](), time.monotonic()
    while len(points) < wanted and (len(points) < LEAST or time.monotonic() - started_at < LIMIT_S):
        seeds = range(FIRST_SEED + len(points), FIRST_SEED + min(wanted, len(points) + AT_ONCE))
        chosen = [seed * _STRIDE % classes for seed in seeds]
        points += [points_of(image) for image in run_images(session, _inputs(spec, seeds, chosen))]
        labels += chosen
    return measure(np.stack(points), labels, classes)


def _inputs(spec: Spec, seeds: range, labels: list[int]) -> dict[str, np.typing.NDArray[np.generic]]:
    """As the server makes them for seeds."""
    n = len(seeds)
    states = [np.random.RandomState(seed) for seed in seeds]
    given: dict[str, np.typing.NDArray[np.generic]] = {
        "latent": np.stack([state.randn(spec.latent_size) for state in states]).astype(np.float32),
        "label": np.array(labels, np.int64),
        "truncation_psi": np.full(n, spec.truncation_default or 0, np.float32),
    }
    if spec.noise_size:
        given["noise"] = np.stack([state.randn(spec.noise_size) for state in states]).astype(np.float32)
    return {tensor.name: given.get(tensor.name, np.zeros((n, *tensor.shape), np.float32)) for tensor in spec.inputs}
