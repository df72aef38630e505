"""The recipe of the zoo's `digits-lapgan`: a Laplacian pyramid of three GANs on MNIST, 7 -> 14 -> 28 pixels.

Denton et al. 2015, arXiv:1506.05751: each level is a GAN of its own, learned beside the others. The base learns to draw
digits shrunk to 7 pixels; each residual level is given a real digit shrunk (pyrDown) and enlarged again (pyrUp) and
learns to draw what is lost. Discriminators see the picture put together.

Differences to the paper: the non-saturating loss with a lazy R1 penalty in place of dropout, no class labels, moving
averages; and a share of the enlarged pictures is the levels' own, so that each has seen what it will be given. What is
saved is the average, in AnirudhMaiya/pytorch-LapGAN's names and layer order, as float16.
"""

import copy
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.families.basic.pyramid import ANIRUDHMAIYA, LevelConfig, Pyramid, pyr_down, pyr_up
from training.alternating import Alternating, descend, frozen
from training.average import average_into
from training.discriminators import save_discriminator
from training.generate import draw as draw_pictures
from training.generate import latents, noise
from training.grid import save_grid
from training.loop import Data, Run, learn
from training.losses import lazy_r1_penalty, minimax_discriminator, non_saturating_generator
from training.metrics.judge import to_signed
from training.recipes.digits_judged import GRID, Figures, measure
from training.recipes.digits_judged import JUDGED as MEASURED

LATENT = 64
HIDDEN = (384, 384)
WIDTHS = ((32, 24), (24, 16))  # of the residual levels' convs at 14 and 28 pixels
JUDGED = 384  # hidden width of the base's discriminator
BASE_PX = 7
LEARNING_RATES = (5e-4, 5e-4)  # generators, discriminators
BETAS = (0.0, 0.99)
BASE_STEPS = 2  # of the base's players for each batch: they cost next to nothing, and all depends on them
PENALTY = (0.02, 0.05, 0.1)  # gamma of R1, by level
OWN = 0.5  # share of enlarged pictures that the levels below drew
DECAY = 0.998
BATCH_SIZE = 32
STORED = {"linears": "fc", "convs": "c", "norms": "b"}


def build_generator(hidden: Sequence[int] = HIDDEN, widths: Sequence[Sequence[int]] = WIDTHS) -> Pyramid:
    """The pyramid, untrained; residual convs have no bias, as their layout's."""
    plans = [
        LevelConfig(tuple(level), (3,) * (len(level) + 1), normed=True, biased=(False,) * (len(level) + 1))
        for level in widths
    ]
    return Pyramid((LATENT, *hidden, BASE_PX**2), 1, BASE_PX, plans, ANIRUDHMAIYA)


def build_base_discriminator(hidden: int) -> nn.Module:
    """Scores pictures (N, 1, 7, 7) float32: (N, 1)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in ((BASE_PX**2, hidden), (hidden, hidden)):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(hidden, 1))


def build_discriminator(side_px: int, width: int) -> nn.Module:
    """Scores pictures (N, 1, S, S) float32: (N, 1)."""
    layers: list[nn.Module] = []
    channels = [1] + [width * 2**step for step in range(2)]
    for before, after in itertools.pairwise(channels):
        layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
    left = side_px // 4
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * left**2, 1))


class LapganLearner(Alternating):
    """One step of both players at every level; `average` is the pyramid that is kept."""

    def __init__(
        self,
        device: torch.device,
        hidden: Sequence[int] = HIDDEN,
        widths: Sequence[Sequence[int]] = WIDTHS,
        judged: int = JUDGED,
    ) -> None:
        self.generator = build_generator(hidden, widths).to(device)
        self.generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.generator).eval()
        convs = (build_discriminator(BASE_PX * 2**level, judged // 16) for level in range(1, len(widths) + 1))
        self.discriminators = nn.ModuleList([build_base_discriminator(judged), *convs]).to(device)
        self.discriminators.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        networks = {"generator": self.generator, "average": self.average, "discriminators": self.discriminators}
        pairs = list(zip(self.generator.levels, self.discriminators, strict=True))
        super().__init__(
            networks,
            [
                torch.optim.Adam(player.parameters(), lr=rate, betas=BETAS, fused=True)
                for pair in pairs
                for player, rate in zip(pair, LEARNING_RATES, strict=True)
            ],
        )
        self.losses = {f"{player}{BASE_PX * 2**level}": 0.0 for level in range(len(pairs)) for player in "DG"}
        self.device = device

    def step(self, pictures: Tensor, labels: Tensor, random: torch.Generator) -> Mapping[str, float]:
        """One batch of uint8 digits (N, 1, 28, 28): steps of the base and of one residual level, which take turns.

        Latents, noise and the share of own pictures come from `random`.
        """
        real = [to_signed(pictures.to(self.device))]
        while real[0].shape[2] > BASE_PX:
            real.insert(0, pyr_down(real[0]))
        for _ in range(BASE_STEPS):
            latent = torch.randn(len(pictures), LATENT, generator=random).to(self.device)
            fake = self.generator.levels[0](latent)
            self._play(0, self.steps, real[0], fake)
        round_, turn = divmod(self.steps, len(real) - 1)
        with torch.no_grad():
            for level in range(1, turn + 1):
                fake = self._refine(level, real[level - 1], fake, random)
        fake = self._refine(turn + 1, real[turn], fake.detach(), random)
        self._play(turn + 1, round_, real[turn + 1], fake)
        average_into(self.average, self.generator, self.steps, DECAY)
        self.steps += 1
        return dict(self.losses)

    def state_dict(self) -> dict[str, Any]:
        """What an alternating learner keeps, and every level's last losses."""
        return {**super().state_dict(), "losses": self.losses}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        super().load_state_dict(state)
        self.losses = dict(state["losses"])

    def _refine(self, level: int, real: Tensor, fake: Tensor, random: torch.Generator) -> Tensor:
        """The level's pictures, from real ones of the level below, the last OWN of them replaced by `fake` ones."""
        own = int(OWN * len(real))
        enlarged = pyr_up(torch.cat([real[: len(real) - own], fake[len(real) - own :]]))
        noise = torch.randn(enlarged.shape, generator=random).to(self.device)
        refined: Tensor = enlarged + self.generator.levels[level](enlarged, noise)
        return refined

    def _play(self, level: int, step: int, real: Tensor, fake: Tensor) -> None:
        """One step of the level's discriminator and one of its generator, the `step`-th of each."""
        discriminator, side = self.discriminators[level], real.shape[2]
        scores = discriminator(torch.cat([real, fake.detach()]))
        judged = minimax_discriminator(*scores.chunk(2))
        penalty = PENALTY[level] * lazy_r1_penalty(discriminator, real, step)
        descend(self.players[2 * level + 1], judged + penalty)
        with frozen(discriminator):
            fooled = descend(self.players[2 * level], non_saturating_generator(discriminator(fake)))
        self.losses |= {f"D{side}": judged.item(), f"G{side}": fooled}


def save_weights(pyramid: nn.Module, path: Path) -> None:
    """Writes the pyramid as float16 in a layout that `models.basic.lapgan` reads: levels coarse to fine.

    Each has the names of AnirudhMaiya/pytorch-LapGAN, whose convs are transposed.
    """
    save_file({_stored_name(key): _stored(key, tensor) for key, tensor in pyramid.state_dict().items()}, path)


def _stored_name(key: str) -> str:
    """`levels.1.convs.0.weight` -> `levels.1.c1.weight`."""
    levels, level, kind, at, name = key.split(".")
    return f"{levels}.{level}.{STORED[kind]}{int(at) + 1}.{name}"


def _stored(key: str, tensor: Tensor) -> Tensor:
    turned = tensor.transpose(0, 1).flip(2, 3) if ".convs." in key and tensor.ndim == 4 else tensor
    return (turned.half() if turned.is_floating_point() else turned).cpu().contiguous()


def draw(pyramid: Pyramid, seeds: range) -> Tensor:
    """Pictures (N, 1, 28, 28) float32, -1..1, as the server draws these seeds."""
    device = next(pyramid.parameters()).device
    maps = noise(seeds, LATENT, pyramid.noise_size)
    return draw_pictures(pyramid, latents(seeds, LATENT).to(device), maps.to(device)).cpu()


def train(
    data: Data,
    test: Data,
    *,
    epochs: int,
    seed: int,
    out: Path,
    resume: bool,
    device: torch.device,
    sizes: tuple[Sequence[int], Sequence[Sequence[int]], int] = (HIDDEN, WIDTHS, JUDGED),
    judged: int = MEASURED,
) -> Figures:
    """Trains; writes `digits-lapgan.safetensors` (float16), its grid and one after each epoch into `out`.

    Raises:
        ResumeError: `out` holds the state of a run with another seed.
    """
    torch.manual_seed(seed)
    learner = LapganLearner(device, *sizes)

    def after_epoch(epoch: int) -> None:
        save_grid(draw(learner.average, GRID), 10, out / f"epoch-{epoch:02d}.png", scale=2)

    run = Run(out / "digits-lapgan.pt", epochs, BATCH_SIZE, seed)
    history = learn(learner, data, run, resume=resume, after_epoch=after_epoch)
    pyramid = round_to_half(learner.average)
    save_weights(pyramid, out / "digits-lapgan.safetensors")
    save_discriminator(learner.discriminators, out / "digits-lapgan.safetensors")
    save_grid(draw(pyramid, GRID), 10, out / "digits-lapgan.png", scale=2)
    parameters = sum(tensor.numel() for tensor in pyramid.parameters())
    return measure(draw(pyramid, range(judged)), data, test, history, parameters)


def round_to_half(pyramid: Pyramid) -> Pyramid:
    """The pyramid with the weights that float16 keeps, still as float32: what is measured is what is saved."""
    state = pyramid.state_dict()
    pyramid.load_state_dict({k: v.half().float() if v.is_floating_point() else v for k, v in state.items()})
    return pyramid
