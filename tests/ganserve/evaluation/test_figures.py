"""The figures, against others' implementations, definitions written out in loops, and cases that are known exactly."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ganserve.evaluation import diversity, frechet, kernel, neighbours
from ganserve.evaluation.errors import EvaluationError
from ganserve.evaluation.report import Subject, evaluate, in_words

RANDOM = np.random.RandomState(7)
REAL: NDArray[np.float32] = RANDOM.randn(300, 16).astype(np.float32)
MADE: NDArray[np.float32] = (RANDOM.randn(280, 16) * 1.1 + 0.2).astype(np.float32)
# What torch-fidelity 0.4.0 computes of REAL and MADE: fid_statistics_to_metric, kid_features_to_metric of the first 280
# with subsets of 280, prc_features_to_metric with 3 neighbours.
FRECHET, KERNEL, PRECISION, RECALL = 1.4057380062579625, 0.1638353052359962, 0.6821428537368774, 0.8700000047683716


def random(seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState(seed)


def test_they_are_those_of_torch_fidelity() -> None:
    assert frechet.distance(frechet.fit(REAL), frechet.fit(MADE)) == pytest.approx(FRECHET, rel=1e-12)
    mean, deviation, size = kernel.distance(REAL[:280], MADE, random(), subsets=2, size=280)
    assert size == 280
    assert mean == pytest.approx(KERNEL, rel=1e-12)
    assert deviation == pytest.approx(0, abs=1e-12)  # all subsets are the whole set
    shares = neighbours.manifolds(REAL, MADE)
    assert [shares.precision, shares.recall] == pytest.approx([PRECISION, RECALL], abs=1e-6)


def test_the_frechet_distance_of_known_gaussians() -> None:
    scales = np.array([1.0, 2.0, 3.0])
    one = frechet.Gaussian(np.zeros(3), np.diag(scales**2))
    other = frechet.Gaussian(np.array([1.0, 0, 2]), np.eye(3))
    assert frechet.distance(one, other) == pytest.approx(5 + ((scales - 1) ** 2).sum(), rel=1e-12)
    assert frechet.distance(one, one) == pytest.approx(0, abs=1e-10)
    few = RANDOM.randn(4, 64).astype(np.float32)  # fewer images than features: no full rank
    assert np.isfinite(frechet.distance(frechet.fit(few), frechet.fit(few + 1)))
    assert frechet.distance(frechet.fit(few), frechet.fit(few + 1)) == pytest.approx(64, rel=1e-3)


def test_the_kernel_distance_as_its_definition_says() -> None:
    x, y = REAL[:12].astype(float), MADE[:12].astype(float)

    def k(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float((a @ b / 16 + 1) ** 3)

    pairs = [(i, j) for i in range(12) for j in range(12)]
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / (12 * 11)
    expected = within - 2 * sum(k(x[i], y[j]) for i, j in pairs) / 144
    assert kernel.distance(REAL[:12], MADE[:12], random(), subsets=1, size=12)[0] == pytest.approx(expected, rel=1e-10)


def test_few_images_have_a_spread_too() -> None:
    mean, deviation, size = kernel.distance(REAL, MADE, random())
    assert size == 140
    assert mean == pytest.approx(KERNEL, abs=0.05)
    assert 0.001 < deviation < 0.1


@pytest.mark.parametrize("block", [7, 1000])
def test_neighbours_as_their_definitions_say(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", block)
    real, made = REAL[:40], MADE[:30]

    def far(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        return float(np.linalg.norm(a.astype(float) - b))

    def radius(of: NDArray[np.float32], among: NDArray[np.float32], k: int) -> float:
        return sorted(far(of, other) for other in among)[k]  # number 0 is itself

    three = [radius(row, real, 3) for row in real]
    five = [radius(row, real, 5) for row in real]
    own = [radius(row, made, 3) for row in made]
    inside = [any(far(m, r) <= t for r, t in zip(real, three, strict=True)) for m in made]
    recalled = [any(far(m, r) <= t for m, t in zip(made, own, strict=True)) for r in real]
    covered = [any(far(m, r) <= t for m in made) for r, t in zip(real, five, strict=True)]
    counts = [sum(far(m, r) <= t for r, t in zip(real, five, strict=True)) for m in made]
    found = neighbours.manifolds(real, made)
    assert found.precision == pytest.approx(np.mean(inside))
    assert found.recall == pytest.approx(np.mean(recalled))
    assert found.density == pytest.approx(np.mean(counts) / 5)
    assert found.coverage == pytest.approx(np.mean(covered))
    near = neighbours.nearest(made, real)
    assert near.indices.tolist() == [min(range(40), key=lambda j: far(m, real[j])) for m in made]
    own_nearest = neighbours.nearest(made, made)
    assert own_nearest.distances[0] == pytest.approx(min(far(made[0], other) for other in made[1:]), rel=1e-6)


def test_the_vendi_score_counts_what_differs() -> None:
    assert diversity.vendi(np.ones((50, 8), np.float32), random()) == pytest.approx(1)
    assert diversity.vendi(np.eye(20, dtype=np.float32), random()) == pytest.approx(20)
    twice = np.repeat(np.eye(20, dtype=np.float32), 5, axis=0)
    assert diversity.vendi(twice, random()) == pytest.approx(20)
    wide = RANDOM.randn(30, 200).astype(np.float32)  # either way round, the same eigenvalues
    rows = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(rows.astype(float) @ rows.T / 30)
    assert diversity.vendi(wide, random()) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-5)


def subject(made: NDArray[np.float32], is_inception: bool = False) -> Subject:
    names = [f"{index}.png" for index in range(len(REAL))]
    return Subject("small", is_inception, names, [f"seed {i}" for i in range(len(made))], REAL, made)


def test_only_inception_gives_a_fid() -> None:
    other, inception = (evaluate(subject(MADE, known), 0, 0, lambda text: None) for known in (False, True))
    assert other["frechet"]["name"] == "Frechet distance in small features"
    assert not any("FID" in line or "KID" in line for line in in_words(other))
    assert (inception["frechet"]["name"], inception["kernel"]["name"]) == ("FID", "KID")
    assert other["frechet"]["value"] == inception["frechet"]["value"] == pytest.approx(FRECHET)


def test_the_spread_is_that_of_resamples_and_the_same_each_time() -> None:
    one, again = (evaluate(subject(MADE), 20, 3, lambda text: None) for _ in range(2))
    assert one == again
    assert 0.02 < one["frechet"]["bootstrap_std"] < 0.5
    assert 0 < one["frechet"]["halves_of_data"] < FRECHET


def test_a_generator_like_its_data_warns_of_nothing_but_the_number() -> None:
    found = evaluate(subject(RANDOM.randn(300, 16).astype(np.float32)), 0, 0, lambda text: None)
    assert [text.partition(" ")[0] for text in found["warnings"]] == ["few"]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (
            np.repeat(MADE[:3], 100, axis=0) + 0.01 * RANDOM.randn(300, 16).astype(np.float32),
            "mode collapse: as diverse",
        ),
        (
            np.repeat(MADE[:3], 100, axis=0) + 0.01 * RANDOM.randn(300, 16).astype(np.float32),
            "have a near copy of another",
        ),
        (REAL[:100] * 0.05, "near a generated image (recall)"),
        (REAL + 0.01 * RANDOM.randn(300, 16).astype(np.float32), "memorisation: 100.0% of the images"),
    ],
)
def test_collapse_and_copies_are_told(made: NDArray[np.float32], says: str) -> None:
    found = evaluate(subject(made), 0, 0, lambda text: None)
    assert any(says in text for text in found["warnings"]), found["warnings"]
    assert f"WARNING: {found['warnings'][0]}" in in_words(found)


def test_the_closest_pairs_are_named_once_each() -> None:
    made = MADE.copy()
    made[5], made[9] = REAL[17], made[4]
    found = evaluate(subject(made), 0, 0, lambda text: None)
    assert found["copies"]["closest"][0] == {
        "generated": "seed 5",
        "other": "17.png",
        "distance": pytest.approx(0, abs=1e-5),
    }
    assert [{pair["generated"], pair["other"]} for pair in found["duplicates"]["closest"]].count(
        {"seed 4", "seed 9"}
    ) == 1


def test_too_few_images_are_refused() -> None:
    with pytest.raises(EvaluationError, match="300 real, 9 generated images; at least 10 each"):
        evaluate(subject(MADE[:9]), 0, 0, lambda text: None)
