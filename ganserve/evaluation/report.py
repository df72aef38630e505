"""All figures of one evaluation, as JSON and in words, and what they warn of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganserve.evaluation import diversity, frechet, kernel, neighbours
from ganserve.evaluation.classes import Named, compare
from ganserve.evaluation.classes import in_words as classes_in_words
from ganserve.evaluation.errors import EvaluationError

PAIRS = 5  # of the closest that are named
NEAR = 0.01  # quantile of real images' own nearest distances: closer than this is a near copy
COLLAPSED = 0.5  # of the real images' Vendi score
MANY = 5.0  # times as many as among real images
FEW_RECALLED = 0.1
FEW_IMAGES = 2000


@dataclass(frozen=True)
class Subject:
    """What is compared: names for people and features (N, K) of each set."""

    extractor: str
    is_inception: bool
    real_names: Sequence[str]
    made_names: Sequence[str]
    real: NDArray[np.float32]
    made: NDArray[np.float32]
    named: Named | None = None  # None: the network names no classes

    @property
    def frechet_name(self) -> str:
        """FID only where it is one."""
        return "FID" if self.is_inception else f"Frechet distance in {self.extractor} features"


def evaluate(subject: Subject, resamples: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Every figure, by name; the same for the same features and seed.

    Raises:
        EvaluationError: too few images.
    """
    real, made = subject.real, subject.made
    if min(len(real), len(made)) < 2 * neighbours.DENSITY_K:
        raise EvaluationError(
            f"{len(real)} real, {len(made)} generated images; at least {2 * neighbours.DENSITY_K} each"
        )
    random = np.random.RandomState(seed)
    say(f"Frechet distance of {real.shape[1]} features, {resamples} resamples")
    found: dict[str, Any] = {
        "features": real.shape[1],
        "frechet": {
            "name": subject.frechet_name,
            "value": frechet.distance(frechet.fit(real), frechet.fit(made)),
            "bootstrap_std": frechet.spread(real, made, resamples, random),
            "halves_of_data": frechet.floor(real, random),
        },
    }
    say("kernel distance")
    mean, deviation, size = kernel.distance(real, made, random)
    found["kernel"] = {
        "name": "KID" if subject.is_inception else f"kernel distance in {subject.extractor} features",
        "value": mean, "subset_std": deviation, "subsets": kernel.SUBSETS, "subset_images": size,
    }  # fmt: skip
    say("precision and recall")
    shares = neighbours.manifolds(real, made)
    found["neighbours"] = {
        "precision": shares.precision, "recall": shares.recall, "k": neighbours.PRECISION_K,
        "density": shares.density, "coverage": shares.coverage, "density_k": neighbours.DENSITY_K,
    }  # fmt: skip
    found["diversity"] = {
        "vendi": diversity.vendi(made, random), "vendi_of_data": diversity.vendi(real, random),
        "images": min(diversity.IMAGES, len(real), len(made)),
    }  # fmt: skip
    say("nearest images")
    found["copies"], found["duplicates"] = _near(subject)
    if subject.named is not None:
        found["classes"] = compare(subject.named)
    found["warnings"] = warnings(found, len(real), len(made))
    return found


def _near(subject: Subject) -> tuple[dict[str, Any], dict[str, Any]]:
    """Generated images by their nearest real one, and by their nearest generated one."""
    own = neighbours.nearest(subject.real, subject.real)
    limit = float(np.quantile(own.distances, NEAR))
    copies = neighbours.nearest(subject.made, subject.real)
    twins = neighbours.nearest(subject.made, subject.made)
    median = float(np.median(own.distances))
    return (
        {
            "near": limit,
            "share": float((copies.distances < limit).mean()),
            "median_distance": float(np.median(copies.distances)),
            "median_distance_of_data": median,
            "closest": _closest(copies, subject.made_names, subject.real_names),
        },
        {
            "share": float((twins.distances < limit).mean()),
            "median_distance": float(np.median(twins.distances)),
            "closest": _closest(twins, subject.made_names, subject.made_names),
        },
    )


def _closest(found: neighbours.Nearest, names: Sequence[str], others: Sequence[str]) -> list[dict[str, Any]]:
    order = found.distances.argsort(kind="stable")
    pairs: dict[frozenset[str], dict[str, Any]] = {}
    for index in order:
        one, other = names[index], others[found.indices[index]]
        pairs.setdefault(
            frozenset((one, other)), {"generated": one, "other": other, "distance": float(found.distances[index])}
        )
        if len(pairs) == PAIRS:
            break
    return list(pairs.values())


def warnings(found: Mapping[str, Any], real: int, made: int) -> list[str]:
    """What the figures warn of, in sentences."""
    said = []
    diverse, copies, duplicates = found["diversity"], found["copies"], found["duplicates"]
    if diverse["vendi"] < COLLAPSED * diverse["vendi_of_data"]:
        said.append(
            f"mode collapse: as diverse as {diverse['vendi']:.1f} different images; the data as "
            f"{diverse['vendi_of_data']:.1f}"
        )
    if found["neighbours"]["recall"] < FEW_RECALLED:
        said.append(
            f"mode collapse: {found['neighbours']['recall']:.1%} of the data is near a generated image (recall)"
        )
    if duplicates["share"] > MANY * NEAR:
        said.append(
            f"mode collapse: {duplicates['share']:.1%} of the images have a near copy of another seed; of the data "
            f"{NEAR:.0%} have one"
        )
    if missing := found.get("classes", {}).get("missing"):
        said.append(f"mode collapse: hardly an image of {', '.join(missing)}, as the judge says")
    if copies["share"] > MANY * NEAR:
        said.append(
            f"memorisation: {copies['share']:.1%} of the images are as close to one of the data as near copies are"
        )
    if min(real, made) < FEW_IMAGES:
        said.append(
            f"few images ({real} real, {made} generated): Frechet distances of fewer than {FEW_IMAGES} are too high, "
            "and compare only with those of the same numbers"
        )
    if min(real, made) <= found["features"]:
        said.append(f"no more images than features ({found['features']}): the covariances have no full rank")
    return said


def in_words(found: Mapping[str, Any]) -> list[str]:
    """A line for each figure, then the warnings."""
    distance, other, shares = found["frechet"], found["kernel"], found["neighbours"]
    diverse, copies, twins = found["diversity"], found["copies"], found["duplicates"]
    spread = f" ± {distance['bootstrap_std']:.3f}" if distance["bootstrap_std"] else ""
    lines = [
        f"{distance['name']}: {distance['value']:.3f}{spread} (halves of the data: {distance['halves_of_data']:.3f})",
        f"{other['name']}: {other['value']:.5f} ± {other['subset_std']:.5f} "
        f"({other['subsets']} subsets of {other['subset_images']})",
        f"precision {shares['precision']:.3f}, recall {shares['recall']:.3f} (k = {shares['k']}); density "
        f"{shares['density']:.3f}, coverage {shares['coverage']:.3f} (k = {shares['density_k']})",
        f"Vendi score {diverse['vendi']:.1f}, of the data {diverse['vendi_of_data']:.1f} ({diverse['images']} images)",
        f"nearest in the data: median distance {copies['median_distance']:.3f} (within the data "
        f"{copies['median_distance_of_data']:.3f}), near copies {copies['share']:.2%}",
        *(f"  {pair['generated']}  {pair['other']}  {pair['distance']:.3f}" for pair in copies["closest"]),
        f"nearest of another seed: median distance {twins['median_distance']:.3f}, near copies {twins['share']:.2%}",
        *(f"  {pair['generated']}  {pair['other']}  {pair['distance']:.3f}" for pair in twins["closest"]),
    ]
    if "classes" in found:
        lines += classes_in_words(found["classes"])
    return lines + [f"WARNING: {text}" for text in found["warnings"]]
