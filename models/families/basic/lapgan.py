"""LAPGAN: Denton, Chintala, Szlam, Fergus, "Deep Generative Image Models using a Laplacian Pyramid of Adversarial
Networks", 2015, arXiv:1506.05751.

A base generator makes a small image from the latent; each further level doubles it with OpenCV's pyrUp and adds a
residual, made from the enlarged image and one map of noise. No repository saves a pyramid in one file; read are

- one state dict with keys `levels.<i>.<key>`, coarse to fine: what `models.checkpoints.folder` makes of a folder with
  one file per level, and what the zoo's own recipe writes;
- keys below that as in witnessai/LAPGAN (`fc<n>`, `conv<n>`, `bn<n>`), AnirudhMaiya/pytorch-LapGAN (`fc<n>`, `c<n>`,
  `b<n>`), or any others in whose natural order the layers run (breadbread1984/LAPGAN-pt, whose convs are plain).

What the repositories compute differs, see `Variant` in `pyramid.py`; names tell which. Differences: any number of
levels, layers and widths; stride-1 transposed convs become convs; one graph in place of a loop over cv2.pyrUp.
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.basic.pyramid import ANIRUDHMAIYA, WITNESSAI, LevelConfig, Pyramid, Variant
from models.state_dict import load

SETTINGS = {
    "variant": Setting(
        "auto",
        "whose layers these are: witnessai (and breadbread1984; ReLU, then BatchNorm) or anirudhmaiya (BatchNorm, "
        "then LeakyReLU; tanh). auto: by the names c<n> of its convs",
        ("auto", "witnessai", "anirudhmaiya"),
    ),
    "noise_std": Setting(
        0.0,
        "standard deviation of latent and noise, for uniform ones their limit; 0: as the variant was trained "
        "(witnessai 0.1, anirudhmaiya and uniform 1)",
    ),
    "noise": Setting(
        "auto",
        "distribution of latent and noise. auto: uniform for witnessai without BatchNorm (its MNIST), else normal",
        ("auto", "normal", "uniform"),
    ),
    "tanh": Setting("auto", "whether every level ends in tanh. auto: as the variant", ("auto", "yes", "no")),
    "eps": Setting(1e-5, "BatchNorm's epsilon, which no checkpoint stores"),
}


@dataclass(frozen=True)
class _Level:
    """A level's layers by the names of their modules, in the order they run."""

    linears: tuple[str, ...]
    convs: tuple[str, ...]
    norms: tuple[str, ...]


def _levels(state: StateDict) -> list[dict[str, Tensor]] | None:
    """The state dicts of the levels, coarse to fine; None if keys are not `levels.<i>.<key>` for i = 0, 1, ..."""
    split = [re.fullmatch(r"levels\.(\d+)\.(.+)", key) for key in state]
    numbers = {int(found[1]) for found in split if found}
    if not all(split) or numbers != set(range(len(numbers))) or len(numbers) < 2:
        return None
    levels: list[dict[str, Tensor]] = [{} for _ in numbers]
    for found, tensor in zip(split, state.values(), strict=True):
        if found:
            levels[int(found[1])][found[2]] = tensor
    return levels


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """A key that sorts conv2 before conv10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _layers(level: StateDict) -> _Level:
    names = sorted({key.rpartition(".")[0] for key in level if key.endswith(".weight")}, key=_natural)
    by_axes = {axes: tuple(name for name in names if level[f"{name}.weight"].ndim == axes) for axes in (1, 2, 4)}
    return _Level(by_axes[2], by_axes[4], by_axes[1])


def _is_base(level: StateDict) -> bool:
    """Whether it is a chain of linear layers."""
    layers = _layers(level)
    shapes = [level[f"{name}.weight"].shape for name in layers.linears]
    chained = all(after[1] == before[0] for before, after in itertools.pairwise(shapes))
    return len(shapes) >= 2 and chained and not layers.convs and not layers.norms


def _kernels(level: StateDict) -> list[Tensor] | None:
    """The kernels of a residual level as plain convs, (out, in, k, k); None if the level is none.

    A residual level takes its image and one map more than it gives, and its kernels are odd. A transposed conv of
    stride 1 is a conv with the kernel turned round.
    """
    layers = _layers(level)
    stored = [level[f"{name}.weight"] for name in layers.convs]
    if len(stored) < 2 or layers.linears or len(layers.norms) not in (0, len(stored) - 1):
        return None
    turned = [kernel.transpose(0, 1).flip(2, 3) for kernel in stored]
    for kernels in (stored, turned):
        chained = all(after.shape[1] == before.shape[0] for before, after in itertools.pairwise(kernels))
        square = all(kernel.shape[2] == kernel.shape[3] and kernel.shape[2] % 2 for kernel in kernels)
        if chained and square and kernels[0].shape[1] == kernels[-1].shape[0] + 1:
            return kernels
    return None


def _channels(levels: Sequence[StateDict]) -> int:
    """Channels of the image that every residual level gives; 0 if the levels are no pyramid."""
    found = [_kernels(level) for level in levels[1:]]
    channels = {0 if kernels is None else kernels[-1].shape[0] for kernels in found}
    return channels.pop() if _is_base(levels[0]) and len(channels) == 1 else 0


def _base_size_px(base: StateDict, channels: int) -> int:
    values = base[f"{_layers(base).linears[-1]}.weight"].shape[0]
    size_px = math.isqrt(values // channels)
    return size_px if size_px >= 2 and channels * size_px**2 == values else 0


def _matches(state: StateDict) -> bool:
    levels = _levels(state)
    channels = _channels(levels) if levels else 0
    return levels is not None and channels > 0 and _base_size_px(levels[0], channels) > 0


def _relative(state: StateDict) -> str | None:
    if ("conv1.weight" in state or "c1.weight" in state) and _kernels(state) is not None:
        return "one level of a LAPGAN; give the folder that holds the files of all levels"
    return None


def _variant(levels: Sequence[StateDict], settings: Mapping[str, Scalar]) -> Variant:
    """The variant that names or the user say, with the user's other settings in."""
    named_c = any(re.fullmatch(r"c\d+", name) for name in _layers(levels[-1]).convs)
    auto = "anirudhmaiya" if named_c else "witnessai"
    variant = {"witnessai": WITNESSAI, "anirudhmaiya": ANIRUDHMAIYA}[
        auto if settings["variant"] == "auto" else str(settings["variant"])
    ]
    auto_uniform = variant is WITNESSAI and not _layers(levels[-1]).norms
    if settings["noise"] == "uniform" or (settings["noise"] == "auto" and auto_uniform):
        variant = replace(variant, uniform=True, noise_std=1.0)
    if settings["tanh"] != "auto":
        variant = replace(variant, tanh=settings["tanh"] == "yes")
    std = float(settings["noise_std"])
    if std < 0:
        raise ArchitectureError(f"noise_std={std:g}: must be above 0, or 0 for the variant's own")
    return replace(variant, noise_std=std or variant.noise_std, eps=float(settings["eps"]))


def _renamed(levels: Sequence[StateDict]) -> dict[str, Tensor]:
    """All levels' tensors under the names of `Pyramid`."""
    state: dict[str, Tensor] = {}
    for index, level in enumerate(levels):
        layers, kernels = _layers(level), _kernels(level) if index else None
        for kind, names in (("linears", layers.linears), ("convs", layers.convs), ("norms", layers.norms)):
            for at, name in enumerate(names):
                prefix = f"{name}."
                own = {key.removeprefix(prefix): value for key, value in level.items() if key.startswith(prefix)}
                if kind == "convs" and kernels is not None:
                    own["weight"] = kernels[at]
                state |= {f"levels.{index}.{kind}.{at}.{key}": value for key, value in own.items()}
    return state


def _level_configs(levels: Sequence[StateDict]) -> tuple[list[int], list[LevelConfig]]:
    base, *residuals = levels
    weights = [base[f"{name}.weight"] for name in _layers(base).linears]
    configs = []
    for level in residuals:
        kernels, layers = _kernels(level) or [], _layers(level)
        configs.append(
            LevelConfig(
                widths=tuple(kernel.shape[0] for kernel in kernels[:-1]),
                kernels_px=tuple(kernel.shape[2] for kernel in kernels),
                normed=bool(layers.norms),
                biased=tuple(f"{name}.bias" in level for name in layers.convs),
            )
        )
    return [weights[0].shape[1], *(weight.shape[0] for weight in weights)], configs


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    levels = _levels(state) or []
    variant = _variant(levels, settings)
    widths, configs = _level_configs(levels)
    channels = _channels(levels)
    base_px = _base_size_px(levels[0], channels)
    network = Pyramid(tuple(widths), channels, base_px, tuple(configs), variant)
    load(network, _renamed(levels))
    return Generator(
        network=network,
        task=Task.UNCONDITIONAL,
        hyperparameters={
            "latent": widths[0],
            "hidden": "-".join(map(str, widths[1:-1])),
            "channels": channels,
            "base_size_px": base_px,
            "levels": len(levels),
            "widths": ", ".join("-".join(map(str, config.widths)) for config in configs),
            "variant": variant.name,
            "noise": f"{'uniform' if variant.uniform else 'normal'}, {variant.noise_std:g}",
        },
        channels=channels,
        output_range=(-1.0, 1.0),
        max_batch_size=256,
        image_size_px=(network.size_px, network.size_px),
        latent_size=widths[0],
        noise_size=network.noise_size,
    )


ARCHITECTURE = Architecture(
    name="lapgan",
    reference="witnessai/LAPGAN, AnirudhMaiya/pytorch-LapGAN, breadbread1984/LAPGAN-pt",
    matches=_matches,
    build=_build,
    settings=SETTINGS,
    relative=_relative,
)
