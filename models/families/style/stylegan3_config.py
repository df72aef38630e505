"""The sizes of an alias-free generator: what tensor shapes say, and what follows from the design of its layers.

Karras, Aittala, Laine, Harkonen, Hellsten, Lehtinen, Aila, "Alias-Free Generative Adversarial Networks", 2021,
arXiv:2106.12423, appendix C: cutoff frequencies and stopbands grow geometrically from layer to layer, sampling rates
are the powers of two above them, and maps have a margin outside the image.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from artifact.spec import Scalar
from models.architecture import ArchitectureError, Setting, StateDict
from models.families.style.stylegan_mapping import fully_connected

LAYER = re.compile(r"synthesis\.L(\d+)_(\d+)_(\d+)\.(weight|bias|magnitude_ema|(up|down)_filter|affine\.(weight|bias))")
INPUT = re.compile(r"synthesis\.input\.(weight|transform|freqs|phases|affine\.(weight|bias))")
GEOMETRY = {
    "num_critical": Setting(2, "how many layers at the end are critically sampled"),
    "first_cutoff": Setting(2.0, "cutoff frequency of the first layer"),
    "first_stopband": Setting(2**2.1, "least stopband of the first layer"),
    "last_stopband_rel": Setting(2**0.3, "least stopband of the last layer, relative to its cutoff"),
    "margin_size": Setting(10, "pixels outside the image that layers see"),
    "lrelu_upsampling": Setting(2, "how much finer than its layers' maps the leaky ReLU is sampled"),
}


@dataclass(frozen=True)
class LayerConfig:
    """One layer: channels in and out, resampling, and the zeros around what is filtered."""

    name: str
    inner: int
    outer: int
    kernel: int
    up: int
    down: int
    up_taps: int
    down_taps: int
    radial: bool
    before: int  # zeros, or cropped rows where negative, before the map with its zeros in
    after: int

    def shapes(self, w_dim: int) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape by key."""
        prefix = f"synthesis.{self.name}"
        shapes: dict[str, tuple[int, ...]] = {
            f"{prefix}.weight": (self.outer, self.inner, self.kernel, self.kernel),
            f"{prefix}.bias": (self.outer,),
            f"{prefix}.magnitude_ema": (),
            **fully_connected(f"{prefix}.affine", w_dim, self.inner),
        }
        if self.up_taps > 1:
            shapes[f"{prefix}.up_filter"] = (self.up_taps,)
        if self.down_taps > 1:
            shapes[f"{prefix}.down_filter"] = (self.down_taps,) * (2 if self.radial else 1)
        return shapes


@dataclass(frozen=True)
class StyleGan3SynthesisConfig:
    """A synthesis network; the input's map is `side_px` wide, `sampling_rate` of them to the image's width."""

    w_dim: int
    side_px: int
    sampling_rate: float
    bandwidth: float
    layers: tuple[LayerConfig, ...]
    img_resolution: int

    @property
    def latents(self) -> int:
        """How many intermediate latents it takes: one for the input, one for each layer."""
        return len(self.layers) + 1

    @property
    def config(self) -> str:
        """The authors' name of the variant: t (translation), r (rotation too), or other."""
        first = self.layers[0]
        return {(3, False): "t", (1, True): "r"}.get((first.kernel, first.radial), "other")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape by key."""
        channels = self.layers[0].inner
        shapes: dict[str, tuple[int, ...]] = {
            "synthesis.input.weight": (channels, channels),
            "synthesis.input.transform": (3, 3),
            "synthesis.input.freqs": (channels, 2),
            "synthesis.input.phases": (channels,),
            **fully_connected("synthesis.input.affine", self.w_dim, 4),
        }
        for layer in self.layers:
            shapes |= layer.shapes(self.w_dim)
        return shapes


@dataclass(frozen=True)
class _Named:
    """What a layer's name says."""

    name: str
    side_px: int
    channels: int


def named_layers(state: StateDict) -> tuple[_Named, ...]:
    """The layers in order, from their names `L<index>_<side>_<channels>`; none where an index is missing."""
    found = {
        int(match[1]): _Named(key.split(".")[1], int(match[2]), int(match[3]))
        for key in state
        if (match := LAYER.fullmatch(key))
    }
    return tuple(found[index] for index in sorted(found)) if sorted(found) == list(range(len(found))) else ()


def synthesis_config(state: StateDict, settings: Mapping[str, Scalar]) -> StyleGan3SynthesisConfig:
    """The config of the synthesis network in a state dict; `settings` are the values of `GEOMETRY`.

    Raises:
        ArchitectureError: the sides in the layers' names are not those that the settings lead to.
    """
    named = named_layers(state)
    resolution, count = named[-1].side_px, len(named)
    critical, margin = int(settings["num_critical"]), int(settings["margin_size"])
    if not 0 < critical < count - 1:
        raise ArchitectureError(f"num_critical={critical}: must be 1 to {count - 2} with {count} layers")
    exponents = np.minimum(np.arange(count) / (count - 1 - critical), 1)
    bands = ("first_cutoff", "first_stopband", "last_stopband_rel")
    first_cutoff, first_stopband, last_stopband = (float(settings[name]) for name in bands)
    if not all(0 < float(settings[name]) < math.inf for name in (*bands, "lrelu_upsampling")):
        raise ArchitectureError(f"{', '.join(bands)} and lrelu_upsampling must be above 0")
    cutoffs = first_cutoff * (resolution / 2 / first_cutoff) ** exponents
    stopbands = first_stopband * (resolution / 2 * last_stopband / first_stopband) ** exponents
    rates = [int(rate) for rate in np.exp2(np.ceil(np.log2(np.minimum(stopbands * 2, resolution))))]
    sides = [rate + 2 * margin for rate in rates[:-2]] + [resolution] * 2
    if sides != [layer.side_px for layer in named]:
        raise ArchitectureError(
            f"layers {', '.join(layer.name for layer in named[:6])} ... where sides "
            f"{', '.join(map(str, sides[:6]))} ... were expected; say --set margin_size, num_critical or first_stopband"
        )
    layers = tuple(
        _layer(state, named, index, rates, sides, int(settings["lrelu_upsampling"])) for index in range(count)
    )
    w_dim = state["synthesis.input.affine.weight"].shape[-1]
    return StyleGan3SynthesisConfig(w_dim, sides[0], float(rates[0]), float(cutoffs[0]), layers, resolution)


def _layer(
    state: StateDict, named: tuple[_Named, ...], index: int, rates: list[int], sides: list[int], finer: int
) -> LayerConfig:
    previous, last = max(index - 1, 0), index == len(named) - 1
    name = named[index].name
    rate = max(rates[previous], rates[index]) * (1 if last else finer)
    up, down = rate // rates[previous], rate // rates[index]
    kernel = state[f"synthesis.{name}.weight"].shape[-1]
    up_taps, down_taps = (_taps(state, f"synthesis.{name}.{way}_filter") for way in ("up", "down"))
    if (up > 1) != (up_taps > 1) or (down > 1) != (down_taps > 1):
        raise ArchitectureError(
            f"{name} is resampled by {up} and {down}, its filters have {up_taps} and {down_taps} taps"
        )
    total = (sides[index] - 1) * down + 1 - (sides[previous] + kernel - 1) * up + up_taps + down_taps - 2
    before = (total + up) // 2
    return LayerConfig(
        name=name,
        inner=named[previous].channels,
        outer=named[index].channels,
        kernel=kernel,
        up=up,
        down=down,
        up_taps=up_taps,
        down_taps=down_taps,
        radial=down_taps > 1 and state[f"synthesis.{name}.down_filter"].ndim == 2,
        before=before,
        after=total - before,
    )


def _taps(state: StateDict, key: str) -> int:
    found = state.get(key)
    return 1 if found is None or found.ndim == 0 else len(found)
