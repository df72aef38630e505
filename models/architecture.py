"""What an architecture offers: recognises its state dicts, reads hyper-parameters from shapes, builds the network."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import nn

from artifact.spec import TRUNCATION_RANGE, Scalar, Task

StateDict: TypeAlias = Mapping[str, torch.Tensor]
Bounds: TypeAlias = tuple[float | tuple[float, ...], float | tuple[float, ...]]
"""(low, high) of an image's values: one number for all channels, or one for each."""


class ArchitectureError(ValueError):
    """Weights that no architecture, or not the requested one, can be built from; one line that says what was found."""


@dataclass(frozen=True)
class Tiling:
    """How a fully convolutional network is run on images larger than one tile; pixels of the input image.

    `size_px`: largest side of a tile, limited by memory and by how long one may keep others waiting. `overlap_px`: the
    receptive field, with which tiles equal the whole image; less, chosen by measurement, where that would cost too
    much, since far pixels inside the receptive field weigh next to nothing. `max_seam_levels`: if tiles differ by more
    than this from the whole image, as export measures, images are not cut.
    """

    size_px: int
    overlap_px: int
    multiple_px: int
    receptive_field_px: int
    max_seam_levels: float = math.inf


@dataclass(frozen=True)
class Generator:
    """A generator built from its own weights.

    `network` is in eval mode, float32, and gives images (N, C, H, W) float32, nominally in `output_range`.

    Generating networks have the inputs that `inputs` lists, in that order: `latent` (N, latent_size) float32, standard
    normal; with `classes`, `label` (N,) int64; with `noise_size`, `noise` (N, noise_size) float32, standard normal, all
    noise maps of one image one after the other; with `truncation_default`, `truncation_psi` (N,) float32; with
    `w_shape` (layers, length), `w` (N, layers, length) float32 and `w_given` (N,) float32: items where that is 1 are
    generated from `w` as it stands, the others from the latent; with `takes_transform`, `transform` (N, 3) float32, as
    `artifact.spec.Spec` has it. Of those, `mapping` makes w (N, layers, length) from
    the latent, the label if there is one, and psi for each layer (N, layers), as the network does; psi acts on the
    first `truncation_cutoff` layers unless a request says otherwise, 0: on all. `image_size_px` is (H, W) of what is
    generated.

    Networks whose input is an image have the input `image` (N, C, H, W) float32 in `input_range`, H and W multiples of
    `multiple_px` and not smaller than `least_px`, or `image_size_px` where that is not (0, 0); it has `input_channels`,
    or if that is 0 `channels`. There follow those that apply of: `attributes` (N, len) float32 with `attributes`, their
    names, 1 for those that the image shall have and 0 for the others; `label` with `classes`; `latent` with
    `latent_size`; `reference` (N, C, *reference_size_px) float32 in `input_range`, an image whose style is wanted; if
    there are both, `reference_given` (N,) float32: items where that is 1 take the reference's style, the others the
    latent's. `encode` turns images (N, C, H, W)
    float32 of levels 0..255 into that input if it is not a linear scale (label maps); the levels that mean something
    are then 0..`input_levels` - 1. With `input_classes` the first channel has numbers of so many classes, and may have
    `input_unknown` beside them; others are refused.

    Encoders take only `image`, of the one size `image_size_px`, and give w (N, *w_shape) instead of images.

    `label_names`: of the classes, if they are known. `notes`: what the user should know of this network.
    `settled`: the architecture's settings that mean nothing for this network, so that nothing is assumed of them.
    `tolerance`: the largest difference to be expected between torch and ONNX Runtime, in the network's own units.
    """

    network: nn.Module
    task: Task
    hyperparameters: Mapping[str, Scalar]
    channels: int
    output_range: Bounds
    max_batch_size: int
    image_size_px: tuple[int, int] = (0, 0)
    latent_size: int = 0
    classes: int = 0
    noise_size: int = 0
    truncation_default: float | None = None
    truncation_range: tuple[float, float] = TRUNCATION_RANGE
    w_shape: tuple[int, int] | None = None
    mapping: nn.Module | None = None
    truncation_cutoff: int = 0
    takes_transform: bool = False
    input_range: Bounds = (0.0, 1.0)
    input_channels: int = 0
    encode: nn.Module | None = None
    input_levels: int = 256
    input_classes: int = 0
    input_unknown: int | None = None
    attributes: tuple[str, ...] = ()
    reference_size_px: tuple[int, int] = (0, 0)
    label_names: tuple[str, ...] = ()
    scale: int = 1
    tile: Tiling | None = None
    multiple_px: int = 1
    least_px: int = 1
    notes: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()
    tolerance: float = 2e-4

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of what the network takes, in its forward's order."""
        has_reference = any(self.reference_size_px)
        if not self.task.draws:
            has = {
                "image": True,
                "attributes": bool(self.attributes),
                "label": self.classes > 0,
                "latent": self.latent_size > 0,
                "reference": has_reference,
                "reference_given": has_reference and self.latent_size > 0,
            }
            return tuple(name for name, taken in has.items() if taken)
        has = {
            "latent": True,
            "label": self.classes > 0,
            "noise": self.noise_size > 0,
            "truncation_psi": self.truncation_default is not None,
            "w": self.w_shape is not None,
            "w_given": self.w_shape is not None,
            "transform": self.takes_transform,
        }
        return tuple(name for name, taken in has.items() if taken)

    @property
    def image_channels(self) -> int:
        """Channels of the input image; for generating networks of the one that comes out."""
        return self.input_channels or self.channels


@dataclass(frozen=True)
class Setting:
    """A hyper-parameter that no tensor shape gives away, so the user may have to say it (`--set KEY=VALUE`)."""

    default: Scalar
    meaning: str
    choices: tuple[str, ...] = ()

    def parse(self, name: str, text: str) -> Scalar:
        """The value that `text` writes, of the default's type.

        Raises:
            ArchitectureError: not of that type, or not one of the choices.
        """
        if self.choices and text not in self.choices:
            raise ArchitectureError(f"{name}={text}: must be one of {', '.join(self.choices)}")
        try:
            return type(self.default)(text)
        except ValueError:
            raise ArchitectureError(f"{name}={text}: must be {type(self.default).__name__}; {self.meaning}") from None


@dataclass(frozen=True)
class Architecture:
    """One family of generators, as its reference implementation names the weights.

    `matches`: whether the keys and shapes are this generator's.
    `build`: the generator from its own state dict and the values of `settings`, every one of them present.
    `relative`: a sentence where the weights are a relative that is no generator (its discriminator), else None.
    `accepts`: what `--arch` may force, if that is more than `matches` (None: the same).
    `configure`: values of `settings` that a config file belonging to the checkpoint gives.
    """

    name: str
    reference: str
    matches: Callable[[StateDict], bool]
    build: Callable[[StateDict, Mapping[str, Scalar]], Generator]
    settings: Mapping[str, Setting] = field(default_factory=dict)
    relative: Callable[[StateDict], str | None] = lambda state: None
    accepts: Callable[[StateDict], bool] | None = None
    configure: Callable[[Mapping[str, object]], Mapping[str, Scalar]] = lambda config: {}
