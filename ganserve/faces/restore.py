"""A photograph whose faces are restored: each is found, cut out upright, sent to a served model, and put back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ganserve.client.client import Client
from ganserve.client.encode import encode, left_out, to_bytes
from ganserve.client.errors import InvalidRequest
from ganserve.client.extras import Extras
from ganserve.client.formats import SUFFIXES, FormatName
from ganserve.client.pictures import decoded
from ganserve.client.png import Pixels
from ganserve.client.received import Timings
from ganserve.client.results import ServedModel, Translated, Upscaled
from ganserve.faces.align import TEMPLATE_PX, Placement, paste
from ganserve.faces.detect import Detector, Face

TASK = "image-to-image"
AT_A_TIME = 16  # faces of one image that are held at once
NONE_FOUND = "no face was found"


@dataclass(frozen=True)
class Restored(Translated):
    """An image with restored faces. `faces`: where they were in the image that was sent; the rest is of the last."""

    faces: tuple[Face, ...] = ()


@dataclass(frozen=True)
class Restorer:
    """Restores the faces of one image after another, from any thread.

    Attributes:
        served: the model: it turns an aligned face into a better one, at 512 px if it takes any size.
        background: the upscaler that the rest of the image goes through; empty: it stays as it is.
        scale: of the background; None: the upscaler's own.
        least_px: faces whose box is smaller are left alone.
        strength: 0..1, how much of a restored face is seen.
    """

    client: Client
    detector: Detector
    served: ServedModel
    background: str = ""
    scale: float | None = None
    least_px: int = 20
    strength: float = 1.0

    def __post_init__(self) -> None:
        require_for_faces(self.served)
        if self.scale is not None and not self.background:
            raise InvalidRequest("a scale is of the background: name an upscaler for it (background, --background)")

    def restore(
        self,
        image: Any,
        *,
        format: FormatName = "png",
        quality: int | None = None,
        alpha: str = "keep",
        metadata: str = "icc",
        version: str = "",
    ) -> Restored:
        """The image with its faces restored; `version` is of `served`. Others: see `Client.translate`.

        Raises:
            ServerError: one of its subclasses.
            OSError: the file cannot be read.
        """
        pixels, extras = decoded(image)
        if alpha == "drop":
            pixels = pixels[..., : 3 if pixels.shape[2] >= 3 else 1]
        rgb = _rgb(pixels)
        faces = self.detector.find(rgb, self.least_px)
        canvas, extras, replies, scale = self._background(image, pixels, extras, alpha, metadata)
        done: list[Placement] = []
        for start in range(0, len(faces), AT_A_TIME):
            some = faces[start : start + AT_A_TIME]
            placements = [Placement.of(face.landmarks, self.served.width or TEMPLATE_PX) for face in some]
            squares = self._sent(rgb, placements, version)
            replies += squares
            placed = [each.enlarged(scale) for each in placements]
            shown = (_rgb(each.array) for each in squares)
            paste(canvas, list(zip(placed, shown, strict=True)), done, self.strength)
            done += placed
        return self._result(canvas, extras, format, quality, replies, tuple(faces))

    def _background(
        self, image: Any, pixels: Pixels, extras: Extras, alpha: Any, metadata: Any
    ) -> tuple[Pixels, Extras, list[Translated | Upscaled], float]:
        """What the faces are put on, to be changed, what goes with it, the reply, and how many times larger it is."""
        if not self.background:
            kept = {"icc": Extras(extras.icc, dpi=extras.dpi), "keep": extras, "strip": Extras()}[str(metadata)]
            return pixels.copy(), kept, [], 1.0
        made = self.client.upscale_stream(
            self.background, image, scale=self.scale, alpha=alpha, metadata=metadata, format="png"
        )
        return made.array.copy(), made.extras, [made], made.width / pixels.shape[1]

    def _sent(self, rgb: Image.Image, placements: Sequence[Placement], version: str) -> list[Translated]:
        mode = "L" if self.served.input_channels == 1 else "RGB"
        squares = [np.asarray(each.cut(rgb).convert(mode)) for each in placements]
        found = self.client.translate(self.served.name, squares, version=version, format="raw")
        for each in found:
            if (each.width, each.height) != (placements[0].side,) * 2:
                raise InvalidRequest(f"{self.served.name}: gave {each.width}x{each.height} px of {placements[0].side}")
        return found

    def _result(
        self,
        canvas: Pixels,
        extras: Extras,
        format: FormatName,
        quality: int | None,
        replies: Sequence[Translated | Upscaled],
        faces: tuple[Face, ...],
    ) -> Restored:
        height, width, channels = canvas.shape
        suffix = next((suffix for suffix, name in SUFFIXES.items() if name == format), "")
        pixels = canvas if format in ("png", "raw") else to_bytes(canvas)
        data = encode(pixels, suffix, extras=extras, quality=quality) if suffix else pixels.tobytes()
        times = [each.timings for each in replies]
        lost = left_out(extras, suffix) if suffix else ""
        said = [warning for each in replies for warning in each.warnings] + [lost] * bool(lost)
        warnings = tuple(dict.fromkeys(said))
        return Restored(
            data, format, width, height, channels, self.served.name, self.served.version,
            Timings(*(max((getattr(each, name) for each in times), default=0.0) for name in Timings.__annotations__)),
            batch_size=max((each.batch_size for each in replies), default=0),
            warnings=warnings if faces else (*warnings, NONE_FOUND), faces=faces,
        )  # fmt: skip


def require_for_faces(served: ServedModel) -> None:
    """Whether a model can be `Restorer.served`.

    Raises:
        InvalidRequest: it is for something else.
    """
    if served.task != TASK or served.scale > 1:
        raise InvalidRequest(f"{served.name}: is for {served.task or 'plain tensors'}; faces are {TASK}")
    if served.height != served.width:
        raise InvalidRequest(f"{served.name}: takes {served.width}x{served.height} px; faces are square")


def _rgb(pixels: Pixels) -> Image.Image:
    """Colours of 8 bits, without alpha."""
    colours = to_bytes(pixels[..., : 3 if pixels.shape[2] >= 3 else 1])
    return Image.fromarray(colours.squeeze(2) if colours.shape[2] == 1 else colours).convert("RGB")
