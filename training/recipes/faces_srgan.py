"""The recipe of the zoo's `faces-srgan`: SRGAN (Ledig et al. 2016, arXiv:1609.04802), x4, on faces that `faces` drew.

The generator is `models.superres.srresnet`, first taught by the mean absolute error alone, then against a
discriminator: relativistic average loss (Jolicoeur-Martineau 2018, arXiv:1807.00734; as in ESRGAN), spectral
normalisation (Miyato et al. 2018, arXiv:1802.05957). SRGAN's perceptual loss compares features of a VGG trained on
ImageNet; here they are the discriminator's own (feature matching, Salimans et al. 2016, arXiv:1606.03498; Wang et al.
2017, arXiv:1711.11585). What is saved is the moving average of the generator, in the names of Lornatang/SRGAN-PyTorch.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from models.families.superres.srresnet import SrResNet, SrResNetConfig
from training.average import average_into
from training.data.generated_faces import SCALE, SIDE_PX, Pairs, resize, to_levels
from training.discriminators import save_discriminator
from training.grid import save_grid
from training.loop import Data, History, Run, learn
from training.metrics import likeness
from training.metrics.judge import to_signed
from training.networks.srgan import Discriminator, feature_distance, relativistic, start_as_enlarger

FEATURES, BLOCKS, STEPS = 48, 8, 2
WIDTH = 48  # of the discriminator
PRETRAINING_EPOCHS = 2
PRETRAINING_RATE = 1e-3
LEARNING_RATES = (2e-4, 4e-4)  # generator, discriminator
BETAS = (0.9, 0.999)
WEIGHTS = {"content": 10.0, "features": 2.0, "adversarial": 0.3}
DECAY = 0.998
BATCH_SIZE = 8
COLUMNS = 6
LAST = torch.channels_last


class _Teacher:
    """What both phases share: pairs of a batch, mirrored at random, and the average that is kept."""

    def __init__(self, generator: SrResNet, low: Tensor, device: torch.device) -> None:
        self.generator = generator.to(device, memory_format=LAST).train()  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.generator).eval()
        self.low = low
        self.steps = 0
        self.device = device

    def pair(self, pictures: Tensor, rows: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """(low, high) float32, 0..1, of the batch's faces; `rows` say which of `low` they are."""
        mirrored = torch.rand(len(rows), generator=random)[:, None, None, None] < 0.5
        pair = (torch.where(mirrored, found.flip(3), found) for found in (self.low[rows], pictures))
        low, high = (found.to(self.device).float().div(255).contiguous(memory_format=LAST) for found in pair)
        return low, high

    def keep(self) -> None:
        """Moves the average after a step."""
        average_into(self.average, self.generator, self.steps, DECAY)
        self.steps += 1


class ContentLearner(_Teacher):
    """The first phase: the mean absolute error alone."""

    def __init__(self, generator: SrResNet, low: Tensor, device: torch.device) -> None:
        super().__init__(generator, low, device)
        self.player = torch.optim.Adam(self.generator.parameters(), lr=PRETRAINING_RATE, betas=BETAS)

    def step(self, pictures: Tensor, labels: Tensor, random: torch.Generator) -> Mapping[str, float]:
        """One batch of uint8 faces; `labels` are their rows."""
        low, high = self.pair(pictures, labels, random)
        loss = functional.l1_loss(self.generator.unclipped(low), high)
        self.player.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.player.step()
        self.keep()
        return {"content": loss.item()}

    def state_dict(self) -> dict[str, Any]:
        """Both networks, the optimiser and the count of steps."""
        networks = {"generator": self.generator.state_dict(), "average": self.average.state_dict()}
        return {**networks, "player": self.player.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.generator.load_state_dict(state["generator"])
        self.average.load_state_dict(state["average"])
        self.player.load_state_dict(state["player"])
        self.steps = state["steps"]


class SrganLearner(_Teacher):
    """The second phase: alternates one discriminator and one generator step."""

    def __init__(self, generator: SrResNet, low: Tensor, width: int, device: torch.device) -> None:
        super().__init__(generator, low, device)
        self.discriminator = Discriminator(width).to(device, memory_format=LAST)  # type: ignore[call-overload]
        self.players = (
            torch.optim.Adam(self.generator.parameters(), lr=LEARNING_RATES[0], betas=BETAS),
            torch.optim.Adam(self.discriminator.parameters(), lr=LEARNING_RATES[1], betas=BETAS),
        )

    def step(self, pictures: Tensor, labels: Tensor, random: torch.Generator) -> Mapping[str, float]:
        """One batch of uint8 faces; `labels` are their rows."""
        low, high = self.pair(pictures, labels, random)
        fake = self.generator.unclipped(low)
        judged = self._step_discriminator(high, fake.detach())
        losses = self._step_generator(high, fake)
        self.keep()
        return {"discriminator": judged, **losses}

    def state_dict(self) -> dict[str, Any]:
        """The three networks, both optimisers and the count of steps."""
        networks = {name: network.state_dict() for name, network in self._networks().items()}
        return {**networks, "players": [player.state_dict() for player in self.players], "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        for name, network in self._networks().items():
            network.load_state_dict(state[name])
        for player, found in zip(self.players, state["players"], strict=True):
            player.load_state_dict(found)
        self.steps = state["steps"]

    def _networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "average": self.average, "discriminator": self.discriminator}

    def _step_discriminator(self, real: Tensor, fake: Tensor) -> float:
        scores = self.discriminator(torch.cat([real, fake]))[0].chunk(2)
        loss = relativistic(scores[0], scores[1])
        self.players[1].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.players[1].step()
        return loss.item()

    def _step_generator(self, real: Tensor, fake: Tensor) -> dict[str, float]:
        self.discriminator.requires_grad_(False)
        with torch.no_grad():
            real_scores, wanted = self.discriminator(real)
        fake_scores, found = self.discriminator(fake)
        terms = {
            "content": functional.l1_loss(fake, real),
            "features": feature_distance(found, wanted),
            "adversarial": relativistic(fake_scores, real_scores),
        }
        loss = torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum()
        self.players[0].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.players[0].step()
        self.discriminator.requires_grad_(True)
        return {name: float(term.detach()) for name, term in terms.items()}


@dataclass(frozen=True)
class Likeness:
    """How one way of enlarging does on the held-out faces; `sharpness` is the share of the originals'."""

    psnr_db: float
    ssim: float
    sharpness: float
    patches: float


@dataclass(frozen=True)
class Figures:
    """What the card says: `likeness` by the way of enlarging (bicubic, content, srgan)."""

    histories: tuple[History, History]
    likeness: Mapping[str, Likeness]
    parameters: int
    trained: int
    held_out: int


@dataclass(frozen=True)
class Size:
    """How large the networks are, and how long the first phase is."""

    features: int = FEATURES
    blocks: int = BLOCKS
    width: int = WIDTH
    pretraining_epochs: int = PRETRAINING_EPOCHS
    batch_size: int = BATCH_SIZE


def train(
    data: Pairs,
    held_out: Pairs,
    *,
    epochs: int,
    seed: int,
    out: Path,
    resume: bool,
    device: torch.device,
    size: Size = Size(),
) -> Figures:
    """Runs both phases; writes `faces-srgan.safetensors` and sheets into `out`.

    Raises:
        ResumeError: `out` holds the state of a run with another seed.
    """
    torch.manual_seed(seed)
    rows = Data(data.high, torch.arange(len(data.high)))
    content = ContentLearner(
        start_as_enlarger(SrResNet(SrResNetConfig(3, size.features, size.blocks, STEPS))), data.low, device
    )
    run = Run(out / "content.pt", size.pretraining_epochs, size.batch_size, seed)
    first = learn(content, rows, run, resume=resume)
    learner = SrganLearner(copy.deepcopy(content.average), data.low, size.width, device)

    def picture_epoch(epoch: int) -> None:
        _picture(held_out, content.average, learner.average, out / f"epoch-{epoch:02d}.png")

    run = Run(out / "srgan.pt", epochs, size.batch_size, seed)
    second = learn(learner, rows, run, resume=resume, after_epoch=picture_epoch)
    _picture(held_out, content.average, learner.average, out / "faces-srgan.png")
    state = {key: tensor.cpu().contiguous() for key, tensor in learner.average.state_dict().items()}
    save_file(state, out / "faces-srgan.safetensors")
    save_discriminator(learner.discriminator, out / "faces-srgan.safetensors")
    ways = _ways(held_out, content.average, learner.average)
    return Figures(
        histories=(first, second),
        likeness={name: _measure(pictures, held_out.high) for name, pictures in ways.items()},
        parameters=sum(weights.numel() for weights in learner.average.parameters()),
        trained=len(data.high),
        held_out=len(held_out.high),
    )


@torch.no_grad()
def enlarge(generator: nn.Module, low: Tensor) -> Tensor:
    """What the server gives: (N, 3, 64, 64) uint8 from (N, 3, 16, 16) uint8."""
    device = next(generator.parameters()).device
    return torch.cat([to_levels(generator(rows.to(device).float() / 255)).cpu() for rows in torch.split(low, 100)])


def _ways(held_out: Pairs, content: nn.Module, srgan: nn.Module) -> dict[str, Tensor]:
    return {
        "bicubic": resize(held_out.low, SIDE_PX),
        "content": enlarge(content, held_out.low),
        "srgan": enlarge(srgan, held_out.low),
    }


def _measure(pictures: Tensor, originals: Tensor) -> Likeness:
    share = likeness.sharpness(pictures) / likeness.sharpness(originals)
    return Likeness(
        psnr_db=likeness.psnr_db(pictures, originals),
        ssim=likeness.ssim(pictures, originals),
        sharpness=share,
        patches=likeness.patch_distance(pictures, originals),
    )


def _picture(held_out: Pairs, content: nn.Module, srgan: nn.Module, path: Path) -> None:
    shown = Pairs(held_out.high[:COLUMNS], held_out.low[:COLUMNS])
    squares = shown.low.repeat_interleave(SCALE, dim=2).repeat_interleave(SCALE, dim=3)
    rows = (squares, *_ways(shown, content, srgan).values(), shown.high)
    save_grid(to_signed(torch.cat(rows)), COLUMNS, path)
