"""FastGAN: Liu, Zhu, Song, Elgammal, "Towards Faster and Stabilized GAN Training for High-fidelity Few-shot Image
Synthesis", 2021, arXiv:2101.04775.

Reads the checkpoints of odegeasslbc/FastGAN-pytorch and its forks: `<iteration>.pth` with {g, d}, whose g is the
running average, and `all_<iteration>.pth`, whose g_ema is a list (models/checkpoints/averages.py puts it in place).
Keys `init.init.<i>`, `feat_<8..1024>.<i>`, `se_<64..512>.main.<i>`, `to_128`, `to_big`; im_size 256, 512 and 1024.
Differences: the repository's eval.py stays in training mode, so its images are normalised with the statistics of the
batch they are generated in. Here they are normalised with the stored ones, or one caller's image would depend on
another's. The side output at 128 px is left out.
"""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, StateDict
from models.families.noise_maps import NOISE, NoiseMaps, noise_source
from models.families.residual.spectral import fold_stored
from models.state_dict import load, rename, weight_shape

SQUEEZED = 16  # a map is scaled by channel according to the one that is this many times smaller
# Where a block's parts stand in the repository's nn.Sequential; None: the noise's strength, which is taken apart.
PLAIN_PLACES = {1: r"convs.0.\1", 2: r"norms.0.\1"}
NOISY_PLACES = {1: r"convs.0.\1", 2: None, 3: r"norms.0.\1", 5: r"convs.1.\1", 6: None, 7: r"norms.1.\1"}


class ScaledBlock(nn.Module):
    """Doubles height and width; one gated conv, or two with noise (N, 1, H, W) before each norm."""

    def __init__(self, before: int, after: int, noisy: bool) -> None:
        super().__init__()
        steps = 2 if noisy else 1
        self.convs = nn.ModuleList(
            nn.Conv2d(before if step == 0 else after, 2 * after, 3, 1, 1, bias=False) for step in range(steps)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(2 * after) for _ in range(steps))
        self.strengths = nn.Parameter(torch.zeros(steps)) if noisy else None

    def forward(self, maps: torch.Tensor, noise: list[torch.Tensor]) -> torch.Tensor:
        """(N, after, 2H, 2W) float32; `noise` holds a map for each conv if there is noise, else nothing."""
        maps = F.interpolate(maps, scale_factor=2.0, mode="nearest")
        for step, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            maps = conv(maps)
            if noise and self.strengths is not None:
                maps = maps + self.strengths[step] * noise[step]
            maps = F.glu(norm(maps), dim=1)
        return maps


class SkipLayerExcitation(nn.Module):
    """A factor for each channel of a large map, from a small one, which is averaged to 4x4 first."""

    def __init__(self, before: int, after: int, side_px: int) -> None:
        super().__init__()
        self.pooled_px = side_px // 4
        self.squeeze = nn.Conv2d(before, after, 4, bias=False)
        self.expand = nn.Conv2d(after, after, 1, bias=False)

    def forward(self, small: torch.Tensor) -> torch.Tensor:
        """(N, after, 1, 1) float32 in 0..1 from `small` (N, before, S, S)."""
        pooled = F.avg_pool2d(small, self.pooled_px) if self.pooled_px > 1 else small
        return torch.sigmoid(self.expand(F.silu(self.squeeze(pooled))))


class FastGanGenerator(nn.Module):
    """Blocks that double a 4x4 map up to the image.

    Args:
        latent: its length.
        widths: channels of the map by its side, 4 to the image's.
        noisy: sides of the maps that come out of a block with noise.
        excited: sides of the maps that are scaled by channel.
        channels: of the image.
        noise: "input", "const" or "none".
    """

    def __init__(
        self,
        latent: int,
        widths: Mapping[int, int],
        noisy: frozenset[int],
        excited: frozenset[int],
        channels: int,
        noise: str,
    ) -> None:
        super().__init__()
        self.side_px = max(widths)
        self.first = nn.ConvTranspose2d(latent, 2 * widths[4], 4, bias=False)
        self.first_norm = nn.BatchNorm2d(2 * widths[4])
        sides = sorted(widths)[1:]
        self.blocks = nn.ModuleDict(
            {str(side): ScaledBlock(widths[side // 2], widths[side], side in noisy) for side in sides}
        )
        self.excitations = nn.ModuleDict(
            {
                str(side): SkipLayerExcitation(widths[side // SQUEEZED], widths[side], side // SQUEEZED)
                for side in excited
            }
        )
        self.last = nn.Conv2d(widths[self.side_px], channels, 3, 1, 1, bias=False)
        self.noise = NoiseMaps([side for side in sides if side in noisy for _ in range(2)], noise)

    def forward(self, latent: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Images (N, C, H, W) float32, nominally in [-1, 1]; only the 1024 px network ends in tanh.

        Args:
            latent: (N, Z) float32, standard normal.
            noise: (N, K) float32, standard normal, if it is an input.
        """
        noise_maps = self.noise(noise)
        maps = F.glu(self.first_norm(self.first(latent[:, :, None, None])), dim=1)
        by_side = {4: maps}
        for key, block in self.blocks.items():
            side = int(key)
            wanted = self.noise.sizes_px.count(side)
            maps = block(maps, noise_maps[:wanted])
            noise_maps = noise_maps[wanted:]
            if key in self.excitations:
                maps = maps * self.excitations[key](by_side[side // SQUEEZED])
            by_side[side] = maps
        image: torch.Tensor = self.last(maps)
        return torch.tanh(image) if self.side_px == 1024 else image


def _plain(state: StateDict) -> dict[str, torch.Tensor]:
    """Without spectral normalisation, under the names of `FastGanGenerator`."""
    folded = fold_stored(state, lambda name: name == "init.init.0.weight")
    strengths = {
        f"blocks.{side}.strengths": torch.cat([state[f"feat_{side}.2.weight"], state[f"feat_{side}.6.weight"]])
        for side in _noisy(state)
    }
    rules: dict[str, str | None] = {
        r"init\.init\.0\.(.+)": r"first.\1",
        r"init\.init\.1\.(.+)": r"first_norm.\1",
        r"to_128\..+": None,
        r"to_big\.(.+)": r"last.\1",
        r"se_(\d+)\.main\.1\.(.+)": r"excitations.\1.squeeze.\2",
        r"se_(\d+)\.main\.3\.(.+)": r"excitations.\1.expand.\2",
    }
    for side in _sides(state):
        places = NOISY_PLACES if side in _noisy(state) else PLAIN_PLACES
        for index, name in places.items():
            rules[rf"feat_{side}\.{index}\.(.+)"] = f"blocks.{side}.{name}" if name else None
    return rename(folded, rules) | strengths


def _sides(state: StateDict) -> list[int]:
    return sorted({int(found[1]) for key in state if (found := re.match(r"feat_(\d+)\.1\.weight", key))})


def _noisy(state: StateDict) -> frozenset[int]:
    return frozenset(side for side in _sides(state) if f"feat_{side}.6.weight" in state)


def _matches(state: StateDict) -> bool:
    first, last, sides = weight_shape(state, "init.init.0", 4), weight_shape(state, "to_big", 4), _sides(state)
    return (
        first[2:] == (4, 4)
        and last[2:] == (3, 3)
        and len(sides) >= 2
        and sides == [8 * 2**step for step in range(len(sides))]
        and 2 * last[1] == weight_shape(state, f"feat_{sides[-1]}.1", 4)[0]
    )


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    nz, first = weight_shape(state, "init.init.0", 4)[:2]
    widths = {4: first // 2} | {side: weight_shape(state, f"feat_{side}.1", 4)[0] // 2 for side in _sides(state)}
    side_px, channels = max(widths), weight_shape(state, "to_big", 4)[0]
    excited = frozenset(int(found[1]) for key in state if (found := re.match(r"se_(\d+)\.main\.1\.weight", key)))
    if any(side not in widths or side // SQUEEZED not in widths for side in excited):
        raise ArchitectureError(f"se_<side> for {sorted(excited)}, but maps of {sorted(widths)} px")
    noise = noise_source(settings, side_px)
    network = FastGanGenerator(nz, widths, _noisy(state), excited, channels, noise)
    return Generator(
        network=load(network, _plain(state)),
        task=Task.UNCONDITIONAL,
        hyperparameters={"nz": nz, "ngf": first // 32, "nc": channels, "im_size": side_px, "noise": noise},
        channels=channels,
        output_range=(-1.0, 1.0),
        max_batch_size=16,
        image_size_px=(side_px, side_px),
        latent_size=nz,
        noise_size=network.noise.input_size,
    )


def _relative(state: StateDict) -> str | None:
    if "down_from_big.0.weight_orig" in state or "rf_big.0.weight_orig" in state:
        return "a FastGAN discriminator (down_from_big, rf_big), not the generator"
    return None


ARCHITECTURE = Architecture(
    name="fastgan",
    reference="odegeasslbc/FastGAN-pytorch",
    matches=_matches,
    build=_build,
    settings={"noise": NOISE},
    relative=_relative,
)
