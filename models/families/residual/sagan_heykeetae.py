"""SAGAN: Zhang, Goodfellow, Metaxas, Odena, "Self-Attention Generative Adversarial Networks", 2018, arXiv:1805.08318.

Reads heykeetae/Self-Attention-GAN's `<step>_G.pth`: transposed convs `l1` to `l4` and `last`, with attention behind
l3 and l4, 64 px. Their spectral norm takes a power step at each call from the stored vector; one such step is folded
into the weights. Differences: any widths; the attention maps, which forward gives beside the image, are left out.
"""

from collections.abc import Mapping

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, StateDict
from models.normalisation import fold
from models.state_dict import Rules, load, rename, shape

STEPS = 4  # transposed convs before the last
RULES: Rules = {
    r"l(\d)\.0\.(weight|bias)": r"l\1.conv.\2",
    r"l(\d)\.1\.(\w+)": r"l\1.norm.\2",
    r"attn(\d)\.(query|key|value)_conv\.(weight|bias)": r"attention\1.\2.\3",
    r"attn(\d)\.gamma": r"attention\1.gamma",
    r"last\.0\.(weight|bias)": r"last.\1",
}


class Step(nn.Module):
    """Transposed conv, batch norm, ReLU: the first makes 4x4 pixels of one, the others double."""

    def __init__(self, before: int, after: int, first: bool) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(before, after, 4, 1 if first else 2, 0 if first else 1)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, after, 2H, 2W) float32, of the first (N, after, 4, 4)."""
        return torch.relu(self.norm(self.conv(maps)))


class FullAttention(nn.Module):
    """Added to the map: of each pixel a mean of the values of all, weighted by the softmax of query times key."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) float32 from the same."""
        queries = self.query(maps).flatten(2).transpose(1, 2)
        weights = torch.softmax(queries @ self.key(maps).flatten(2), dim=-1)
        mixed = self.value(maps).flatten(2) @ weights.transpose(1, 2)
        joined: torch.Tensor = maps + self.gamma * mixed.unflatten(2, maps.shape[2:])
        return joined


class HeykeetaeGenerator(nn.Module):
    """Four steps, attention behind the third and the fourth, a transposed conv and tanh.

    Args:
        latent: its length.
        widths: channels behind each step.
        inner: of the queries and keys of both attentions.
        channels: of the image.
    """

    def __init__(self, latent: int, widths: tuple[int, ...], inner: tuple[int, int], channels: int) -> None:
        super().__init__()
        befores = (latent, *widths)
        self.l1, self.l2, self.l3, self.l4 = (
            Step(befores[place], widths[place], first=place == 0) for place in range(STEPS)
        )
        self.attention1 = FullAttention(widths[2], inner[0])
        self.attention2 = FullAttention(widths[3], inner[1])
        self.last = nn.ConvTranspose2d(widths[3], channels, 4, 2, 1)
        self.output = nn.Tanh()

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Images (N, C, 64, 64) float32 in [-1, 1] from `latent` (N, Z) float32."""
        maps = self.attention1(self.l3(self.l2(self.l1(latent[:, :, None, None]))))
        image: torch.Tensor = self.output(self.last(self.attention2(self.l4(maps))))
        return image


def _plain(state: StateDict) -> dict[str, torch.Tensor]:
    """The state with plain weights under our names; empty if it has others."""
    bare = {key.replace(".module.", "."): tensor for key, tensor in state.items()}
    return rename(fold(bare), RULES, strict=True)


def _matches(state: StateDict) -> bool:
    if "attn2.gamma" not in state or "last.0.weight" not in state:
        return False
    plain = _plain(state)
    widths = [shape(plain, f"l{step}.conv.weight", 4) for step in range(1, STEPS + 1)]
    last = shape(plain, "last.weight", 4)
    chained = all(two[0] == one[1] > 0 for one, two in zip(widths, [*widths[1:], last], strict=True))
    norms = all(f"l{step}.norm.running_var" in plain for step in range(1, STEPS + 1))
    places = [shape(plain, f"attention{number}.value.weight", 4)[0] for number in (1, 2)]
    return chained and norms and places == [widths[2][1], widths[3][1]]


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    plain = _plain(state)
    sizes = [plain[f"l{step}.conv.weight"].shape for step in range(1, STEPS + 1)]
    inner = (len(plain["attention1.query.weight"]), len(plain["attention2.query.weight"]))
    latent, channels = sizes[0][0], plain["last.weight"].shape[1]
    network = HeykeetaeGenerator(latent, tuple(size[1] for size in sizes), inner, channels)
    return Generator(
        network=load(network, plain),
        task=Task.UNCONDITIONAL,
        hyperparameters={"z_dim": latent, "g_conv_dim": sizes[-1][1], "channels": channels, "imsize": 64},
        channels=channels,
        output_range=(-1.0, 1.0),
        max_batch_size=16,
        image_size_px=(64, 64),
        latent_size=latent,
    )


def _relative(state: StateDict) -> str | None:
    if "attn2.gamma" in state and "last.0.weight" in state and "l1.1.running_var" not in state:
        return "a SAGAN discriminator of heykeetae/Self-Attention-GAN (no batch norms), not the generator"
    return None


ARCHITECTURE = Architecture(
    name="sagan-heykeetae",
    reference="heykeetae/Self-Attention-GAN",
    matches=_matches,
    build=_build,
    relative=_relative,
)
