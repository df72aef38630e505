"""The recipe of the zoo's `emoji-cyclegan` and `emoji-cyclegan-reverse`: Google's emoji in Twitter's style and back.

CycleGAN: Zhu, Park, Isola, Efros 2017, arXiv:1703.10593. Two generators (`resnet_translator`, instance norm) and two
patch discriminators; least-squares adversarial losses on a pool of 50 past pictures, 10 times the mean absolute
difference after a round trip, 5 times that of a picture that already has the style. Nothing tells which two pictures
show the same thing: each step draws its Google and its Twitter pictures independently. What is saved are the moving
averages of both generators.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.families.translation.translator_layers import ResnetConfig, ResnetTranslator
from training.alternating import Alternating, descend, frozen
from training.average import average_into
from training.discriminators import save_discriminator
from training.grid import save_grid
from training.loop import Data, History, Run, learn
from training.losses import least_squares_discriminator, least_squares_generator
from training.metrics.judge import to_signed
from training.patches import (
    PatchDiscriminator,
    PicturePool,
    crop,
    draw_weights,
    held_out,
    save_half,
    spread,
    translate,
)

SIZE_PX = 64
WIDTH = 16
BLOCKS = 3
DISCRIMINATOR_WIDTH = 24
CYCLE_WEIGHT = 10.0
IDENTITY_WEIGHT = 5.0
LEARNING_RATES = (4e-4, 2e-4)  # generators, discriminators
BETAS = (0.5, 0.999)
DECAY = 0.999
BATCH_SIZE = 1
POOL_SIZE = 50
WINDOW_PX = 40


class CycleganLearner(Alternating):
    """Alternates one step of both generators and one of both discriminators; `averages` are kept: there, back."""

    def __init__(self, twitter: Tensor, device: torch.device, width: int = WIDTH) -> None:
        plan = ResnetConfig(3, 3, width, BLOCKS, "instance", biased=True)
        self.twitter = twitter
        self.device = device
        self.there, self.back = (ResnetTranslator(plan).to(device) for _ in range(2))
        for generator in (self.there, self.back):
            draw_weights(generator)
        self.averages = (copy.deepcopy(self.there).eval(), copy.deepcopy(self.back).eval())
        judges = [PatchDiscriminator(3, DISCRIMINATOR_WIDTH, 2, "instance").to(device) for _ in range(2)]
        self.judges = nn.ModuleDict({"there": judges[0], "back": judges[1]})
        self.pools = (PicturePool(POOL_SIZE), PicturePool(POOL_SIZE))
        averages = {"average_there": self.averages[0], "average_back": self.averages[1]}
        networks = {"there": self.there, "back": self.back, **averages, "judges": self.judges}
        playing = ([*self.there.parameters(), *self.back.parameters()], [*self.judges.parameters()])
        rates = zip(playing, LEARNING_RATES, strict=True)
        super().__init__(networks, [torch.optim.Adam(weights, lr=rate, betas=BETAS) for weights, rate in rates])

    def step(self, pictures: Tensor, labels: Tensor, random: torch.Generator) -> Mapping[str, float]:
        """One step from Google's pictures (N, 3, H, W) uint8; as many of Twitter's are drawn from `random`."""
        rows = torch.randint(len(self.twitter), (len(pictures),), generator=random)
        windows = [crop(each, WINDOW_PX, random) for each in (pictures, self.twitter[rows])]
        google, twitter = (to_signed(window.to(self.device)) for window in windows)
        fakes, losses = self._step_generators(google, twitter)
        past = [pool.exchange(fake, random) for pool, fake in zip(self.pools, fakes, strict=True)]
        losses["discriminators"] = self._step_discriminators((twitter, google), past)
        for average, current in zip(self.averages, (self.there, self.back), strict=True):
            average_into(average, current, self.steps, DECAY)
        self.steps += 1
        return losses

    def state_dict(self) -> dict[str, Any]:
        """The networks, the optimisers, the pools and the count of steps."""
        return {**super().state_dict(), "pools": [pool.kept for pool in self.pools]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        super().load_state_dict(state)
        for pool, kept in zip(self.pools, state["pools"], strict=True):
            pool.kept = list(kept)

    def _step_generators(self, google: Tensor, twitter: Tensor) -> tuple[tuple[Tensor, Tensor], dict[str, float]]:
        # One call for a fake and the picture whose style is already right: instance norm sees each picture alone.
        fake_twitter, same_twitter = self.there(torch.cat([google, twitter])).chunk(2)
        fake_google, same_google = self.back(torch.cat([twitter, google])).chunk(2)
        with frozen(self.judges):
            fooled = _fooled(self.judges["there"](fake_twitter)) + _fooled(self.judges["back"](fake_google))
        cycle = _distance(self.back(fake_twitter), google) + _distance(self.there(fake_google), twitter)
        identity = _distance(same_twitter, twitter) + _distance(same_google, google)
        descend(self.players[0], fooled + CYCLE_WEIGHT * cycle + IDENTITY_WEIGHT * identity)
        losses = {"generators": fooled.item(), "cycle": cycle.item(), "identity": identity.item()}
        return (fake_twitter, fake_google), losses

    def _step_discriminators(self, real: tuple[Tensor, Tensor], fakes: list[Tensor]) -> float:
        losses = [
            least_squares_discriminator(*judge(torch.cat([true, fake])).chunk(2))
            for judge, true, fake in zip(self.judges.values(), real, fakes, strict=True)
        ]
        return descend(self.players[1], losses[0] + losses[1])


def train(
    google: Tensor,
    twitter: Tensor,
    *,
    epochs: int,
    seed: int,
    out: Path,
    resume: bool,
    device: torch.device,
    width: int = WIDTH,
) -> tuple[tuple[nn.Module, nn.Module], History]:
    """The generators there and back, learned from nine tenths of each style, and how the run went.

    `google` and `twitter` are (N, 3, S, S) uint8 and show the same things, which the learner is not told. Writes
    `emoji-cyclegan.safetensors` and `emoji-cyclegan-reverse.safetensors`, half precision, and sample sheets into `out`.

    Raises:
        ResumeError: `out` holds the state of a run with another seed.
    """
    torch.manual_seed(seed)
    kept = held_out(len(google))
    learner = CycleganLearner(twitter[~kept], device, width)

    def picture_epoch(epoch: int) -> None:
        for name, network, before, after in _directions(learner, google[kept], twitter[kept]):
            draw_sheet(network, before, after, out / f"{name}-epoch-{epoch:02d}.png", device)

    run = Run(out / "emoji-cyclegan.pt", epochs, BATCH_SIZE, seed)
    known = Data(google[~kept], torch.zeros(int((~kept).sum()), dtype=torch.int64))
    history = learn(learner, known, run, resume=resume, after_epoch=picture_epoch)
    for name, network, before, after in _directions(learner, google[kept], twitter[kept]):
        draw_sheet(network, before, after, out / f"{name}.png", device)
        save_half(network, out / f"{name}.safetensors")
        judge = learner.judges["back" if name.endswith("reverse") else "there"]
        save_discriminator(judge, out / f"{name}.safetensors")
    return learner.averages, history


def _directions(
    learner: CycleganLearner, google: Tensor, twitter: Tensor
) -> tuple[tuple[str, nn.Module, Tensor, Tensor], ...]:
    there, back = learner.averages
    return ("emoji-cyclegan", there, google, twitter), ("emoji-cyclegan-reverse", back, twitter, google)


def draw_sheet(network: nn.Module, before: Tensor, after: Tensor, path: Path, device: torch.device) -> None:
    """Three rows: some of the pictures `before`, what `network` makes of them, and the true ones `after`, all uint8."""
    rows = spread(len(before))
    drawn = translate(network, before[rows], device)
    save_grid(torch.cat([to_signed(before[rows]), drawn, to_signed(after[rows])]), len(rows), path)


def _fooled(scores: Tensor) -> Tensor:
    """E[(scores - 1)^2], the scale on which the paper weighs the other losses."""
    return 2 * least_squares_generator(scores)


def _distance(found: Tensor, true: Tensor) -> Tensor:
    return (found - true).abs().mean()
