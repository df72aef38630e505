"""The keyword arguments of both clients' calls. `Client.generate`, `upscale` and `translate` document each of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from ganserve.client.formats import FormatName
from ganserve.client.pictures import Picture

AlphaName = Literal["keep", "drop"]
MetadataName = Literal["icc", "keep", "strip"]
ResampleName = Literal["lanczos", "area"]
FitName = Literal["contain", "cover", "fill"]
Labels = str | int | Sequence[str | int]
Truncations = float | Sequence[float]
Seeds = int | Iterable[int]
Steps = str | Sequence[str | tuple[str, str] | tuple[str, str, Labels]]


Strengths = float | Sequence[float]
Translations = tuple[float, float] | Sequence[tuple[float, float]] | NDArray[np.floating]


@dataclass(frozen=True)
class Edit:
    """A change of the latent along a direction of the model.

    Attributes:
        direction: its name or index, as `directions` lists them.
        strength: in standard deviations; one for all images or one for each.
        layers: of w, such as "0-3,6"; "": all.
        without: names or indices of directions that are to stay as they are.
    """

    direction: str | int
    strength: Strengths
    layers: str = ""
    without: Sequence[str | int] = ()


@dataclass(frozen=True)
class Mix:
    """Some layers of w from other seeds.

    Attributes:
        seeds: one for all images or one for each.
        layers: such as "0-3,6".
    """

    seeds: Seeds
    layers: str


class GenerateOptions(TypedDict, total=False):
    """What `generate` and `generate_stream` accept besides the model and `deadline_s`. None: not given."""

    seeds: Seeds | None
    count: int | None
    first_seed: int | None
    latents: NDArray[np.float32] | None
    ws: NDArray[np.float32] | None
    labels: Labels | None
    truncation: Truncations | None
    noise_seeds: Seeds | None
    edits: Mapping[str | int, Strengths] | Sequence[Edit]
    mixes: Sequence[Mix]
    layer_truncations: Sequence[float] | None
    truncation_cutoff: int | None
    towards: Sequence[tuple[int, float]] | None
    truncation_center: str | int | None
    translate: Translations | None
    rotate: float | Sequence[float] | None
    size: int | None
    best_of: int | None
    min_percentile: float | None
    drs_percentile: float | None
    max_tries: int | None
    return_w: bool
    then: Steps
    format: FormatName
    quality: int | None
    version: str


class ImageOptions(TypedDict, total=False):
    """What `upscale` and `translate` accept besides the model, the image and `deadline_s`."""

    alpha: AlphaName
    format: FormatName
    quality: int | None
    bits: int | None
    metadata: MetadataName
    tta: bool
    version: str


class TranslateOptions(ImageOptions, total=False):
    """What `translate` accepts as well. None: not given."""

    labels: Labels | None
    seed: int | None
    reference: Picture | None


class UpscaleOptions(ImageOptions, total=False):
    """What `upscale` accepts as well. None: not given."""

    scale: float | None
    width: int | None
    height: int | None
    fit: FitName | None
    resample: ResampleName | None


class ScoreOptions(TypedDict, total=False):
    """What `score` accepts besides the model, the images and `deadline_s`. None: not given."""

    labels: Labels | None
    fit: Literal["cover", "fill"] | None
    version: str
