"""Of several candidates for an image the one that the model's critic takes: the best, or the first that is accepted.

The candidates of an image are those of seeds that follow from its own, so that the same request gives the same image,
and the chosen seed alone gives it again.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from server.batching.chain import Run
from server.images import latents
from server.images.codecs import DecodedImage
from server.images.concurrency import run_bounded
from server.images.critic import Critic

# 2^32 over the golden ratio: the candidates of neighbouring seeds stay far from each other.
SEED_STEP = 2654435769
MAX_TRIES = 64
_EPS = 1e-6


def candidate_seeds(seeds: Sequence[int], tries: int) -> list[int]:
    """The seeds of all candidates, `tries` for each seed: seed + j * SEED_STEP modulo 2^32, j = 0, 1, ..."""
    return [(seed + number * SEED_STEP) % latents.SEEDS for seed in seeds for number in range(tries)]


class Rule(Protocol):
    """Which candidates are accepted."""

    def accepts(self, critic: Critic, score: float, label: int | None, seed: int) -> bool:
        """Whether one is."""


@dataclass(frozen=True)
class AtLeast:
    """Those at a percentile or above."""

    percentile: float

    def accepts(self, critic: Critic, score: float, label: int | None, seed: int) -> bool:
        """See `Rule`."""
        return critic.percentile(score, label) >= self.percentile


@dataclass(frozen=True)
class DiscriminatorRejection:
    """Those that a coin of their own seed takes, in proportion to how likely the critic holds them.

    Azadi, Olsson, Darrell, Goodfellow, Odena, "Discriminator Rejection Sampling", 2018, arXiv:1810.06758. The largest
    score M and gamma, here a percentile of F, are those of the model's own images at export instead of a running
    maximum, so that the result does not depend on what was generated before.
    """

    percentile: float

    def accepts(self, critic: Critic, score: float, label: int | None, seed: int) -> bool:
        """See `Rule`."""
        row = critic.quantiles(label)
        at = float(np.interp(self.percentile, np.linspace(0, 100, len(row)), row))
        share = _f(score - row[-1]) - _f(at - row[-1])  # F rises with the score: its percentile is the score's
        coin = np.random.RandomState([seed, 1]).random_sample()
        return bool(coin < 1 / (1 + math.exp(min(700.0, -share))))


def _f(below: float) -> float:
    """The paper's F without gamma, of how far a score is from the largest one."""
    below = min(below, 0.0)
    return below - math.log(-math.expm1(below - _EPS))


@dataclass(frozen=True)
class Selection:
    """How each image of a request is chosen: among so many candidates at most; `rule` None: the best of all."""

    critic: Critic
    tries: int
    rule: Rule | None = None

    @property
    def at_once(self) -> int:
        """Candidates of one image that are computed at the same time."""
        return self.tries if self.rule is None else 1

    @property
    def held_bytes(self) -> int:
        """Of the candidates of one image that are there at the same time, as pixels and as the critic's inputs."""
        return (self.at_once + 1) * 2 * self.critic.item_bytes

    def digest(self) -> bytes:
        """Of all that the choice depends on, beside the model's files and the seeds."""
        return repr((self.tries, self.rule, self.critic.facts.quantiles)).encode()


@dataclass(frozen=True)
class Candidate:
    """One that was generated: its row in the job, and how long it took."""

    row: int
    image: DecodedImage
    queue_s: float
    compute_s: float
    batch_size: int


@dataclass(frozen=True)
class Choice:
    """What the critic says of the image that was chosen, of how many candidates, and whether the rule accepted it; if
    not, it is the best of them."""

    score: float
    percentile: float
    candidates: int
    accepted: bool


async def choose(
    selection: Selection,
    index: int,
    seeds: Sequence[int],
    labels: Sequence[int] | None,
    make: Callable[[int], Awaitable[Candidate]],
    judge: Run,
) -> tuple[Candidate, Choice]:
    """The candidate for image `index` that is taken. `seeds`, `labels`: of every row. `make`: generates a row.

    Ties go to the earlier candidate.
    """
    critic, tries = selection.critic, selection.tries
    rows = range(index * tries, (index + 1) * tries)

    async def judged(row: int) -> tuple[float, Candidate]:
        candidate = await make(row)
        label = None if labels is None else int(labels[row])
        done = await judge(critic.inputs(candidate.image.pixels, label))
        return float(done.outputs["score"][0]), candidate

    best: tuple[float, Candidate] | None = None
    count, accepted = 0, False
    async with aclosing(run_bounded((judged(row) for row in rows), selection.at_once)) as results:
        async for score, candidate in results:
            count += 1
            label = None if labels is None else int(labels[candidate.row])
            if best is None or (score, -candidate.row) > (best[0], -best[1].row):
                best = score, candidate
            if selection.rule is not None and selection.rule.accepts(critic, score, label, seeds[candidate.row]):
                best, accepted = (score, candidate), True
                break
    assert best is not None, "there is one candidate at least"
    score, candidate = best
    label = None if labels is None else int(labels[candidate.row])
    choice = Choice(score, critic.percentile(score, label), count, accepted or selection.rule is None)
    return candidate, choice
