"""The keyword arguments of both clients' calls. `Client.generate`, `upscale` and `translate` document each of them."""

from collections.abc import Iterable, Sequence
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from ganserve.client.formats import FormatName

AlphaName = Literal["keep", "drop"]
FitName = Literal["contain", "cover", "fill"]
Labels = str | int | Sequence[str | int]
Truncations = float | Sequence[float]
Seeds = int | Iterable[int]
Steps = str | Sequence[str | tuple[str, str]]


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
    then: Steps
    format: FormatName
    quality: int | None
    version: str


class ImageOptions(TypedDict, total=False):
    """What `upscale` and `translate` accept besides the model, the image and `deadline_s`."""

    alpha: AlphaName
    format: FormatName
    quality: int | None
    version: str


class UpscaleOptions(ImageOptions, total=False):
    """What `upscale` accepts as well. None: not given."""

    scale: float | None
    width: int | None
    height: int | None
    fit: FitName | None
