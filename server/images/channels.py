"""How the channels of a picture go through a network: known from its header, before anything is decoded.

Upscale: colours and alpha each go through the network (Real-ESRGAN's way), a grey plane as three equal channels whose
luma comes back, so grey stays grey. Translate: the network's own channels come out; alpha is not a picture to translate
and is put back as it was, unless the network takes or draws one itself.

Either way, grey goes into a network of three channels as three equal ones. A network of one channel takes grey: also as
three channels that are equal everywhere, but no colours, since it may read a label in each level.
"""

from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from artifact.spec import Spec
from server.errors import InvalidRequest
from server.images import tiling
from server.images.header import Header
from server.images.tiling import Plan


class Alpha(Enum):
    """Where the alpha of the picture that comes back is from."""

    NONE = auto()  # it has none
    RESIZED = auto()  # the picture's own, around the network
    ENLARGED = auto()  # the picture's own, through the network as a grey picture
    DRAWN = auto()  # the network's fourth channel


@dataclass(frozen=True)
class Layout:
    """Names and channels of what the network takes and gives; `colours` and `alpha` of the picture that comes back."""

    header: Header
    plan: Plan
    whole: bool  # whether the network needs the picture in one piece, whatever its size
    scale: int
    input_name: str
    output_name: str
    input_channels: int
    output_channels: int
    colours: int
    alpha: Alpha
    keeps_alpha: bool  # whether a network of four channels sees the picture's alpha

    @property
    def tiles(self) -> int:
        """Rows that the engine runs at most."""
        return len(self.plan) * (2 if self.alpha is Alpha.ENLARGED else 1)

    @property
    def height(self) -> int:
        """Of the picture that comes back, px."""
        return self.header.height * self.scale

    @property
    def width(self) -> int:
        """Likewise."""
        return self.header.width * self.scale

    @property
    def channels(self) -> int:
        """Of the picture that comes back."""
        return self.colours + (self.alpha is not Alpha.NONE)

    @property
    def drawn_channels(self) -> int:
        """How many of them the network draws in one run."""
        return self.colours + (self.alpha is Alpha.DRAWN)

    @property
    def tile_bytes(self) -> int:
        """Bytes of one tile on its way to the engine."""
        return self.plan.tile_height * self.plan.tile_width * self.input_channels

    @property
    def answer_bytes(self) -> int:
        """Bytes of the engine's answer to it."""
        return self.plan.tile_height * self.plan.tile_width * self.scale**2 * self.output_channels

    @property
    def held_bytes(self) -> int:
        """Bytes in use at once: Pillow's copy, the decoded pixels, the canvas, about as much again while it is encoded;
        of a picture in one piece also what goes into the network and what comes out."""
        pixels = self.header.height * self.header.width * 8 + 2 * self.height * self.width * self.channels
        return pixels + (self.tile_bytes + self.answer_bytes if len(self.plan) == 1 else 0)

    def feed(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What of the decoded picture (H, W, C) the network draws from: (H, W, 1), (H, W, 3), or with alpha (H, W, 4).

        Raises:
            InvalidRequest: colours for a network that takes grey.
        """
        colours = pixels[..., : pixels.shape[2] - self.header.has_alpha]
        if self.input_channels == 4:
            seen = self.header.has_alpha and self.keeps_alpha
            alpha = pixels[..., -1:] if seen else np.full((*pixels.shape[:2], 1), 255, np.uint8)
            return np.concatenate([np.broadcast_to(colours, (*colours.shape[:2], 3)), alpha], axis=2)
        if self.input_channels == 1 and colours.shape[2] == 3:
            if (colours != colours[..., :1]).any():
                raise InvalidRequest("image: it has colours, but the model takes grey pictures of one channel")
            return colours[..., :1]
        return colours


def lay_out_upscale(spec: Spec, header: Header, keeps_alpha: bool) -> Layout:
    """A picture for super-resolution.

    Raises:
        InvalidRequest: the network takes or gives no picture of one or three channels.
    """
    ins, outs = _channels(spec, (1, 3))
    colours = 1 if header.channels < 3 else min(ins, outs)
    alpha = Alpha.ENLARGED if header.has_alpha and keeps_alpha else Alpha.NONE
    return _layout(spec, header, ins, outs, colours, alpha, keeps_alpha)


def lay_out_translation(spec: Spec, header: Header, keeps_alpha: bool) -> Layout:
    """A picture for image-to-image.

    Raises:
        InvalidRequest: the network takes or gives no picture of one, three or four channels.
    """
    ins, outs = _channels(spec, (1, 3, 4))
    if not keeps_alpha:
        alpha = Alpha.NONE
    elif outs == 4:
        alpha = Alpha.DRAWN
    else:
        alpha = Alpha.RESIZED if header.has_alpha and ins < 4 else Alpha.NONE
    return _layout(spec, header, ins, outs, min(outs, 3), alpha, keeps_alpha)


def _layout(spec: Spec, header: Header, ins: int, outs: int, colours: int, alpha: Alpha, keeps_alpha: bool) -> Layout:
    if spec.tile is None:
        plan = tiling.plan_whole(header.height, header.width, spec.multiple_px, spec.least_px)
    else:
        plan = tiling.plan(header.height, header.width, spec.tile)
    return Layout(
        header=header,
        plan=plan,
        whole=spec.tile is None,
        scale=spec.scale,
        input_name=spec.inputs[0].name,
        output_name=spec.outputs[0].name,
        input_channels=ins,
        output_channels=outs,
        colours=colours,
        alpha=alpha,
        keeps_alpha=keeps_alpha,
    )


def _channels(spec: Spec, pictures: tuple[int, ...]) -> tuple[int, int]:
    """Channels that go in and come out."""
    ins, outs = spec.image_shape[2], spec.outputs[0].shape[-1]
    for verb, channels in (("takes", ins), ("gives", outs)):
        if channels not in pictures:
            raise InvalidRequest(f"model: {verb} {channels} channels, not a picture; use ModelInfer")
    return ins, outs
