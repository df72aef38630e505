"""How the channels of an image go through a network: known from its header, before anything is decoded.

Upscale: colours and alpha each go through the network (as in Real-ESRGAN). A grey plane goes in as three equal channels
and comes back as their luma, so grey stays grey. Translate: the network's own channels come out. Alpha does not go
through the network and is put back as it was, unless the network takes or generates an alpha channel itself.

In both, grey goes into a network of three channels as three equal ones. A network of one channel takes grey, also as
three channels that are equal everywhere, but no colours, since it may read a label in each level.

No network sees the colours that alpha hides, unless alpha is dropped, and with it what hides them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.shapes import tile_sizes
from artifact.spec import Spec
from server.errors import InvalidRequest
from server.images.cutouts import spread_colours
from server.images.guidance import Guidance, resolve_guidance
from server.images.header import Header
from server.images.tiling import TileGrid, tile_grid, whole_grid

NOTHING = Guidance()


class Alpha(Enum):
    """Where the alpha of the image that is returned comes from."""

    NONE = auto()  # it has none
    PASSED = auto()  # the sent image's own, around the network
    UPSCALED = auto()  # the sent image's own, through the network as a grey image
    GENERATED = auto()  # the network's fourth channel


@dataclass(frozen=True)
class ChannelPlan:
    """Names and channels of the network's input and output; `colours` and `alpha` of the image that is returned."""

    header: Header
    grid: TileGrid
    whole: bool  # whether the network needs the image in one piece, whatever its size
    scale: int
    input_name: str
    output_name: str
    input_channels: int
    output_channels: int
    colours: int
    alpha: Alpha
    keeps_alpha: bool  # whether a network of four channels sees the image's alpha
    bits: int = 8  # of a sample of the image
    is_float: bool = False  # whether the network takes and gives floats in [0, 1], as it does for 16 bits
    turns: int = 1  # in how many ways each tile is run: 8 of `server.images.turns`
    others: Mapping[str, NDArray[Any]] = field(default_factory=dict, compare=False)  # inputs beside the image
    classes: int = 0  # that a label map has numbers of; 0: the image is none
    unknown: int | None = None  # the number beside them that it may have

    @property
    def tiles(self) -> int:
        """Tiles that the engine runs at most, each way of them counted."""
        return len(self.grid) * self.turns * (2 if self.alpha is Alpha.UPSCALED else 1)

    @property
    def height(self) -> int:
        """Of the image that is returned, px."""
        return self.header.height * self.scale

    @property
    def width(self) -> int:
        """Likewise."""
        return self.header.width * self.scale

    @property
    def channels(self) -> int:
        """Of the image that is returned."""
        return self.colours + (self.alpha is not Alpha.NONE)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the image that is returned."""
        return self.height, self.width, self.channels

    @property
    def dtype(self) -> Any:
        """Of its channels."""
        return np.uint8 if self.bits == 8 else np.uint16

    @property
    def sample_bytes(self) -> int:
        """Of one channel of a pixel."""
        return self.bits // 8

    @property
    def nbytes(self) -> int:
        """Of the image that is returned."""
        return self.height * self.width * self.channels * self.sample_bytes

    @property
    def network_channels(self) -> int:
        """How many of them the network computes in one run."""
        return self.colours + (self.alpha is Alpha.GENERATED)

    @property
    def tile_bytes(self) -> int:
        """Bytes of one tile as the engine's input, with what goes in beside it."""
        tile = self.grid.tile_height * self.grid.tile_width * self.input_channels * self._tensor_bytes
        return tile + sum(array.nbytes for array in self.others.values())

    @property
    def output_bytes(self) -> int:
        """Bytes of the engine's output for it."""
        tile_px = self.grid.tile_height * self.grid.tile_width * self.scale**2
        return tile_px * self.output_channels * self._tensor_bytes

    @property
    def _tensor_bytes(self) -> int:
        """Of one value as the engine takes and gives it."""
        return 4 if self.is_float else 1

    @property
    def hides_colours(self) -> bool:
        """Whether the returned image may have pixels whose colour is not seen."""
        return self.header.has_alpha and self.keeps_alpha

    def network_input(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """What of the decoded image (H, W, C) the network gets: (H, W, 1), (H, W, 3), or with alpha (H, W, 4).

        Raises:
            InvalidRequest: colours for a network that takes grey, or numbers of classes that it does not have.
        """
        colours = pixels[..., : pixels.shape[2] - self.header.has_alpha]
        if self.classes:
            self._check_classes(colours[..., 0])
        # A network of four channels was trained with what is hidden, or its last one is a map of instances, not alpha.
        if self.hides_colours and self.input_channels != 4:
            colours = spread_colours(colours, pixels[..., -1:])
        if self.input_channels == 4:
            alpha = (
                pixels[..., -1:]
                if self.hides_colours
                else np.full((*pixels.shape[:2], 1), np.iinfo(pixels.dtype).max, pixels.dtype)
            )
            return np.concatenate([np.broadcast_to(colours, (*colours.shape[:2], 3)), alpha], axis=2)
        if self.input_channels == 1 and colours.shape[2] == 3:
            if (colours != colours[..., :1]).any():
                raise InvalidRequest("image: it has colours, but the model accepts only grey images of one channel")
            return colours[..., :1]
        return colours

    def _check_classes(self, numbers: NDArray[Any]) -> None:
        wrong = numbers >= self.classes
        if self.unknown is not None:
            wrong &= numbers != self.unknown
        if wrong.any():
            y, x = np.argwhere(wrong)[0]
            also = "" if self.unknown is None else f", and {self.unknown} for none of them"
            raise InvalidRequest(
                f"image: class {numbers[y, x]} at x {x}, y {y}; the model's label maps have 0..{self.classes - 1}{also}"
            )


def plan_upscale(spec: Spec, header: Header, keeps_alpha: bool, bits: int = 8) -> ChannelPlan:
    """The plan for super-resolution.

    Raises:
        InvalidRequest: the network does not take and return images of one or three channels, or takes another size
            only.
    """
    ins, outs = _channels(spec, (1, 3))
    colours = 1 if header.channels < 3 else min(ins, outs)
    alpha = Alpha.UPSCALED if header.has_alpha and keeps_alpha else Alpha.NONE
    return _plan(spec, header, ins, outs, colours, alpha, keeps_alpha, bits)


def plan_translation(
    spec: Spec, header: Header, keeps_alpha: bool, bits: int = 8, guidance: Guidance = NOTHING
) -> ChannelPlan:
    """The plan for image-to-image; `guidance`: what goes in beside the image, for models that take something.

    Raises:
        InvalidRequest: the network does not take and return images of one, three or four channels, or takes another
            size only; guidance that does not fit the model.
    """
    others = resolve_guidance(guidance, spec)
    ins, outs = _channels(spec, (1, 3, 4))
    if not keeps_alpha:
        alpha = Alpha.NONE
    elif outs == 4:
        alpha = Alpha.GENERATED
    else:
        alpha = Alpha.PASSED if header.has_alpha and ins < 4 else Alpha.NONE
    return replace(_plan(spec, header, ins, outs, min(outs, 3), alpha, keeps_alpha, bits), others=others)


def _plan(
    spec: Spec, header: Header, ins: int, outs: int, colours: int, alpha: Alpha, keeps_alpha: bool, bits: int
) -> ChannelPlan:
    only_height, only_width, _ = spec.image_shape
    if (only_height or only_width) and (header.height, header.width) != (only_height, only_width):
        raise InvalidRequest(
            f"image: {header.width} x {header.height} px, but the model takes images of {only_width} x {only_height} "
            "px only; crop or resize it"
        )
    if spec.tile is None:
        grid = whole_grid(header.height, header.width, spec.multiple_px, spec.least_px)
    else:
        grid = tile_grid(header.height, header.width, spec.tile, tile_sizes(spec))
    return ChannelPlan(
        header=header,
        grid=grid,
        whole=spec.tile is None,
        scale=spec.scale,
        input_name=spec.inputs[0].name,
        output_name=spec.outputs[0].name,
        input_channels=ins,
        output_channels=outs,
        colours=colours,
        alpha=alpha,
        keeps_alpha=keeps_alpha,
        bits=bits,
        is_float=bits == 16,
        classes=spec.input_classes,
        unknown=spec.input_unknown,
    )


def _channels(spec: Spec, supported: tuple[int, ...]) -> tuple[int, int]:
    """Channels that go in and come out."""
    ins, outs = spec.image_shape[2], spec.outputs[0].shape[-1]
    for verb, channels in (("takes", ins), ("returns", outs)):
        if channels not in supported:
            raise InvalidRequest(f"model: it {verb} {channels} channels, which is not an image; use ModelInfer")
    return ins, outs
