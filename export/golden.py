"""Golden statistics of a served graph: what its images are like, for the server to compare its own with."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime

from artifact.golden import MAX_CLASSES, Golden, Points, difference, measure, points_of
from artifact.repository import JUDGE, earlier_golden
from artifact.spec import Spec
from export.directions.space import run_images
from export.errors import ExportError
from export.judge.find import AUTO, NONE, JudgeWanted, find_judge
from export.judge.run import Judge, open_judge

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
    spec: Spec,
    session: onnxruntime.InferenceSession,
    target: tuple[Path, int],
    judge: tuple[JudgeWanted, Path],
    folder: Path,
    progress: Callable[[str], None],
) -> tuple[Spec, Mapping[str, Path], tuple[str, ...]]:
    """The spec with the golden statistics of its graph, which gives pixels; the judge's file by name, if there is one;
    and what the user should know. Of models that take an image there are neither.

    Args:
        target: the model's folder in the repository, whose earlier versions the new one is compared with, and the new
            one's version.
        judge: which judge is wanted, and the checkpoint that it may lie beside.
        folder: for the judge's file.

    Raises:
        ExportError: a judge was asked for that does not fit.
    """
    wanted, checkpoint = judge
    gives_images = spec.task.draws and spec.tensors == "uint8"
    found_judge, said = find_judge(wanted, checkpoint, spec.provenance, gives_images)
    if not gives_images:
        return spec, {}, ()
    progress("measuring what the images are like")
    files = {}
    if found_judge is None:
        golden = measure_golden(spec, session)
    else:
        try:
            opened = open_judge(found_judge, spec, folder / JUDGE, *target)
            golden = measure_golden(spec, session, opened)
            spec, files = replace(spec, judge=opened.spec), {JUDGE: folder / JUDGE}
        except ExportError as error:
            if wanted.judge not in (AUTO, NONE):
                raise ExportError(f"--judge {wanted.judge}: {error}") from None
            golden, said = measure_golden(spec, session), (f"no judge: {error}",)
    found, earlier = replace(spec, golden=golden), earlier_golden(*target, golden)
    if earlier is None:
        return found, files, said
    number, other = earlier
    far = [f"{name} by {by:.1f}" for name, by in difference(golden, other).items() if by > FAR]
    differs = f"its images differ from those of version {number}, in standard deviations of one image: {', '.join(far)}"
    return found, files, (*said, *((differs,) if far else ()))


def measure_golden(spec: Spec, session: onnxruntime.InferenceSession, judge: Judge | None = None) -> Golden:
    """From images with the model's default truncation, noise of their own and the classes in turn. `judge`: says what
    each shows."""
    classes = max(1, len(spec.labels))
    wanted = max(IMAGES, OF_EACH_CLASS * classes) if classes <= MAX_CLASSES else IMAGES
    points, labels, started_at = list[Points](), list[int](), time.monotonic()
    while len(points) < wanted and (len(points) < LEAST or time.monotonic() - started_at < LIMIT_S):
        seeds = range(FIRST_SEED + len(points), FIRST_SEED + min(wanted, len(points) + AT_ONCE))
        chosen = [seed * _STRIDE % classes for seed in seeds]
        images = run_images(session, _inputs(spec, seeds, chosen))
        points += [points_of(image) for image in images]
        labels += chosen
        if judge is not None:
            judge.see(images)
    return measure(np.stack(points), labels, classes, *(judge.finish() if judge is not None else ()))


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
