"""The recipe of the zoo's `emoji-cyclegan` and `emoji-cyclegan-reverse`: coloured emoji become ink drawings, and back.

CycleGAN: Zhu, Park, Isola, Efros 2017, arXiv:1703.10593, between Google's emoji in colour and in the font Noto Emoji: a
network that learns the look of patches keeps shapes, so the two styles are ones that share them.

The generators are U-Nets with batch norm (`--netG unet` of junyanz/pytorch-CycleGAN-and-pix2pix, at 64 px four levels):
the paper's residual network squeezes 64 pixels into 16, and its instance norm forgets of a drawing in one colour which
colour it is. The discriminators score patches up to the whole window, and have the R1 penalty in place of norms, which
would hide how bright and how colourful a picture is. Fakes come from a pool of past ones; CYCLE_WEIGHTS times the mean
absolute difference after a round trip, on whose way there is noise, since a generator hides in faint greys what it
should invent anew; IDENTITY_WEIGHT times that of a picture that already has the style. In their first steps both
generators learn to copy whatever they are given: else they may settle on exchanging colours, which a round trip undoes.
Nothing tells which two pictures show the same thing: each step draws both styles' pictures independently. What is saved
are the moving averages of both generators; the one that colours has its norms' statistics measured anew on clean ink.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.families.translation.unet import UnetConfig, UnetTranslator
from training.alternating import Alternating, descend, frozen
from training.average import average_into
from training.discriminators import save_discriminator
from training.grid import save_grid
from training.loop import Data, History, Run, learn
from training.losses import lazy_r1_penalty, minimax_discriminator, non_saturating_generator
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
WIDTHS = (32, 64, 96, 128)
DISCRIMINATOR_WIDTH = 32
HALVINGS = 3
CYCLE_WEIGHTS = (1.0, 3.0)  # of round trips from colour and from ink
IDENTITY_WEIGHT = 1.0
COPYING = 300  # steps
NOISE = 0.3  # of pictures on their way back, -1..1
PENALTY = 0.1  # gamma of R1
PENALTY_EVERY = 8
LEARNING_RATES = (3e-4, 4e-4)  # generators, discriminators
BETAS = (0.5, 0.999)
DECAY = 0.9995
BATCH_SIZE = 4
POOL_SIZE = 50
WINDOW_PX = 48
SETTLING = 32  # pictures in a batch that statistics are measured on


class CycleganLearner(Alternating):
    """Alternates one step of both generators and one of both discriminators; `averages` are kept: there, back."""

    def __init__(self, ink: Tensor, device: torch.device, widths: tuple[int, ...] = WIDTHS) -> None:
        plan = UnetConfig(3, 3, widths, "batch")
        self.ink = ink
        self.device = device
        self.there, self.back = (UnetTranslator(plan).to(device) for _ in range(2))
        for generator in (self.there, self.back):
            draw_weights(generator)
        self.averages = (copy.deepcopy(self.there).eval(), copy.deepcopy(self.back).eval())
        self.judge_there, self.judge_back = (
            PatchDiscriminator(3, DISCRIMINATOR_WIDTH, HALVINGS).to(device) for _ in range(2)
        )
        self.judges = nn.ModuleDict({"there": self.judge_there, "back": self.judge_back})
        self.pools = (PicturePool(POOL_SIZE), PicturePool(POOL_SIZE))
        averages = {"average_there": self.averages[0], "average_back": self.averages[1]}
        networks = {"there": self.there, "back": self.back, **averages, "judges": self.judges}
        playing = ([*self.there.parameters(), *self.back.parameters()], [*self.judges.parameters()])
        rates = zip(playing, LEARNING_RATES, strict=True)
        super().__init__(networks, [torch.optim.Adam(weights, lr=rate, betas=BETAS) for weights, rate in rates])

    def step(self, pictures: Tensor, labels: Tensor, random: torch.Generator) -> Mapping[str, float]:
        """One step from pictures in colour (N, 3, H, W) uint8; as many in ink are drawn from `random`."""
        rows = torch.randint(len(self.ink), (len(pictures),), generator=random)
        windows = [crop(each, WINDOW_PX, random) for each in (pictures, self.ink[rows])]
        colour, ink = (to_signed(window.to(self.device)) for window in windows)
        fakes, losses = self._step_generators(colour, ink, random)
        past = [pool.exchange(fake, random) for pool, fake in zip(self.pools, fakes, strict=True)]
        losses["discriminators"] = self._step_discriminators((ink, colour), past)
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

    def _step_generators(
        self, colour: Tensor, ink: Tensor, random: torch.Generator
    ) -> tuple[tuple[Tensor, Tensor], dict[str, float]]:
        # One call for a fake and the picture whose style is already right: the norms see both styles.
        fake_ink, same_ink = self.there(torch.cat([colour, ink])).chunk(2)
        fake_colour, same_colour = self.back(torch.cat([ink, colour])).chunk(2)
        with frozen(self.judges):
            scores = self.judge_there(fake_ink), self.judge_back(fake_colour)
            fooled = non_saturating_generator(scores[0]) + non_saturating_generator(scores[1])
        identity = _distance(same_ink, ink) + _distance(same_colour, colour)
        returned = self.back(_blotted(fake_ink, random)), self.there(_blotted(fake_colour, random))
        cycle = [_distance(returned[0], colour), _distance(returned[1], ink)]
        if self.steps < COPYING:
            loss = _distance(fake_ink, colour) + _distance(fake_colour, ink) + identity
        else:
            loss = fooled + CYCLE_WEIGHTS[0] * cycle[0] + CYCLE_WEIGHTS[1] * cycle[1] + IDENTITY_WEIGHT * identity
        descend(self.players[0], loss)
        from_colour, from_ink = (each.item() for each in cycle)
        losses = {
            "generators": fooled.item(),
            "colour and back": from_colour,
            "ink and back": from_ink,
            "identity": identity.item(),
        }
        return (fake_ink, fake_colour), losses

    def _step_discriminators(self, real: tuple[Tensor, Tensor], fakes: list[Tensor]) -> float:
        judged, penalties = real[0].new_zeros(()), real[0].new_zeros(())
        for judge, true, fake in zip((self.judge_there, self.judge_back), real, fakes, strict=True):
            judged = judged + minimax_discriminator(*judge(torch.cat([true, fake])).chunk(2))
            penalties = penalties + lazy_r1_penalty(judge.mean_score, true, self.steps, PENALTY_EVERY)
        descend(self.players[1], judged + PENALTY * penalties)
        return judged.item()


def train(
    colour: Tensor,
    ink: Tensor,
    *,
    epochs: int,
    seed: int,
    out: Path,
    resume: bool,
    device: torch.device,
    widths: tuple[int, ...] = WIDTHS,
) -> tuple[tuple[nn.Module, nn.Module], History]:
    """The generators there and back, learned from nine tenths of each style, and how the run went.

    `colour` and `ink` are (N, 3, S, S) uint8 and show the same things, which the learner is not told. Writes
    `emoji-cyclegan.safetensors` and `emoji-cyclegan-reverse.safetensors`, half precision, and sample sheets into `out`.

    Raises:
        ResumeError: `out` holds the state of a run with another seed.
    """
    torch.manual_seed(seed)
    kept = held_out(len(colour))
    learner = CycleganLearner(ink[~kept], device, widths)

    def picture_epoch(epoch: int) -> None:
        for name, network, before, after in _directions(learner, colour[kept], ink[kept]):
            draw_sheet(network, before, after, out / f"{name}-epoch-{epoch:02d}.png", device)

    run = Run(out / "emoji-cyclegan.pt", epochs, BATCH_SIZE, seed)
    known = Data(colour[~kept], torch.zeros(int((~kept).sum()), dtype=torch.int64))
    history = learn(learner, known, run, resume=resume, after_epoch=picture_epoch)
    settle(learner.averages[1], ink[~kept], device)
    for name, network, before, after in _directions(learner, colour[kept], ink[kept]):
        draw_sheet(network, before, after, out / f"{name}.png", device)
        save_half(network, out / f"{name}.safetensors")
        judge = learner.judge_back if name.endswith("reverse") else learner.judge_there
        save_discriminator(judge, out / f"{name}.safetensors")
    return learner.averages, history


@torch.no_grad()
def settle(network: nn.Module, pictures: Tensor, device: torch.device) -> None:
    """Measures the batch norms' statistics anew on `pictures` (N, 3, S, S) uint8, those that `network` will be given.

    In training ink came with noise half of the time, and none of its flat black and white was flat.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
    network.train()
    for rows in torch.split(pictures, SETTLING):
        network(to_signed(rows.to(device)))
    network.eval()


def _directions(
    learner: CycleganLearner, colour: Tensor, ink: Tensor
) -> tuple[tuple[str, nn.Module, Tensor, Tensor], ...]:
    there, back = learner.averages
    return ("emoji-cyclegan", there, colour, ink), ("emoji-cyclegan-reverse", back, ink, colour)


def draw_sheet(network: nn.Module, before: Tensor, after: Tensor, path: Path, device: torch.device) -> None:
    """Three rows: some of the pictures `before`, what `network` makes of them, and the true ones `after`, all uint8."""
    rows = spread(len(before))
    drawn = translate(network, before[rows], device)
    save_grid(torch.cat([to_signed(before[rows]), drawn, to_signed(after[rows])]), len(rows), path)


def _blotted(pictures: Tensor, random: torch.Generator) -> Tensor:
    """`pictures` with noise: what they say faintly, such as colours in the greys of ink, is lost on the way back."""
    return pictures + NOISE * torch.randn(pictures.shape, generator=random).to(pictures)


def _distance(found: Tensor, true: Tensor) -> Tensor:
    return (found - true).abs().mean()
