"""What a call gives back: pictures with what is known about them, and the served models."""

import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganserve.v1 import images_pb2 as pb

SUFFIXES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
FORMAT_NAMES = {
    pb.IMAGE_FORMAT_UNSPECIFIED: "png",
    pb.IMAGE_FORMAT_PNG: "png",
    pb.IMAGE_FORMAT_JPEG: "jpeg",
    pb.IMAGE_FORMAT_WEBP: "webp",
    pb.IMAGE_FORMAT_RAW: "raw",
}


def format_of(path: Path) -> str:
    """The format that a file name's suffix asks for: png, jpeg or webp.

    Raises:
        ValueError: another suffix, or none.
    """
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise ValueError(f"{path}: the suffix must be one of {', '.join(SUFFIXES)}") from None


@dataclass(frozen=True)
class Timings:
    """Seconds that the server spent in each phase; for several images the longest of each."""

    queue_s: float = 0.0
    compute_s: float = 0.0
    decode_s: float = 0.0
    encode_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True)
class _Delivered:
    """One picture as it came. `data` is encoded as `format` says (png, jpeg, webp or raw)."""

    data: bytes = field(repr=False)
    format: str
    width: int
    height: int
    channels: int
    model: str
    version: str
    timings: Timings

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """(H, W, C) uint8, C = 1, 3 or 4, decoded on first use."""
        if self.format == "raw":
            return np.frombuffer(self.data, np.uint8).reshape(self.height, self.width, self.channels)
        pixels = np.asarray(Image.open(io.BytesIO(self.data)))
        return pixels.reshape(self.height, self.width, self.channels)

    @property
    def pil(self) -> Image.Image:
        """A PIL image of its own: L, RGB or RGBA."""
        if self.format == "raw":
            return Image.fromarray(self.array.squeeze(2) if self.channels == 1 else self.array)
        return Image.open(io.BytesIO(self.data))

    def save(self, path: str | Path) -> None:
        """Writes a .png, .jpg or .webp: the bytes as they came where the format agrees, else encoded again.

        Raises:
            ValueError: another suffix.
        """
        target = Path(path)
        wanted = format_of(target)
        if wanted == self.format:
            target.write_bytes(self.data)
        else:
            self.pil.save(target, wanted)


@dataclass(frozen=True)
class GeneratedImage(_Delivered):
    """A picture that a generator drew.

    `index`: its place in the request. `seed`: None where the latent or w was given. `label`: class index, None where
    the model has no classes. `noise_seed`: None where the model takes no noise. `batch_size`: rows of the batch it ran
    in, other callers' included; for images that came in one answer, of the largest one.
    """

    index: int
    seed: int | None
    label: int | None
    noise_seed: int | None
    batch_size: int


@dataclass(frozen=True)
class Upscaled(_Delivered):
    """An enlarged picture, the tiles it was cut into and the rows of the largest batch they ran in."""

    tiles: int
    batch_size: int


@dataclass(frozen=True)
class Translated(_Delivered):
    """A picture that came of another, and the rows of the batch it ran in."""

    batch_size: int


@dataclass(frozen=True)
class Knob:
    """Something that `generate` may set: seed, latent, w, label, truncation or noise_seed.

    `minimum` and `maximum` are the limits (None: any finite number), `shape` that of one picture's value, () for a
    number. `default` is None where there is no one number for it.
    """

    name: str
    description: str
    minimum: float | None
    maximum: float | None
    default: float | None
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ServedModel:
    """One version of one model in the server's repository.

    `state` is READY, LOADING, UNLOADING or UNAVAILABLE, with the `reason` where it is not ready; `task` is empty for
    models that are served as plain tensors only. `architecture` is the family. `knobs`: what `generate` may set.
    `input_channels` are of the picture that goes in, 0 for generators; `multiple_px` is what `translate` pads it to.
    """

    name: str
    version: str
    state: str
    reason: str
    task: str
    architecture: str
    labels: tuple[str, ...]
    latent_size: int
    scale: int
    height: int
    width: int
    truncation: bool
    max_batch_size: int
    licence: str
    source: str
    knobs: tuple[Knob, ...]
    input_channels: int
    channels: int
    multiple_px: int


Reply = pb.GenerateReply | pb.GenerateStreamReply | pb.UpscaleReply | pb.TranslateReply


def _delivered(image: pb.Image, reply: Reply) -> dict[str, Any]:
    timings = reply.timings
    return {
        "data": image.data,
        "format": FORMAT_NAMES.get(image.format, "png"),
        "width": image.width,
        "height": image.height,
        "channels": image.channels,
        "model": reply.model,
        "version": reply.version,
        "timings": Timings(timings.queue_s, timings.compute_s, timings.decode_s, timings.encode_s, timings.total_s),
    }


def _drawn(
    image: pb.Image, reply: pb.GenerateReply | pb.GenerateStreamReply, index: int, batch_size: int
) -> GeneratedImage:
    return GeneratedImage(
        **_delivered(image, reply),
        index=index,
        seed=image.seed if image.HasField("seed") else None,
        label=image.label if image.HasField("label") else None,
        noise_seed=image.noise_seed if image.HasField("noise_seed") else None,
        batch_size=batch_size,
    )


def read_generated(reply: pb.GenerateReply) -> list[GeneratedImage]:
    """The images of one answer, in the order asked."""
    return [_drawn(image, reply, index, reply.largest_batch) for index, image in enumerate(reply.images)]


def read_streamed(reply: pb.GenerateStreamReply) -> GeneratedImage:
    """The image of one answer of a stream."""
    return _drawn(reply.image, reply, reply.index, reply.batch_size)


def read_upscaled(reply: pb.UpscaleReply) -> Upscaled:
    """The picture of an answer."""
    return Upscaled(**_delivered(reply.image, reply), tiles=reply.tiles, batch_size=reply.largest_batch)


def read_translated(reply: pb.TranslateReply) -> Translated:
    """The picture of an answer."""
    return Translated(**_delivered(reply.image, reply), batch_size=reply.batch_size)


def read_models(reply: pb.ListModelsReply) -> list[ServedModel]:
    """The models of an answer, in the server's order."""
    return [
        ServedModel(
            name=model.name,
            version=model.version,
            state=model.state,
            reason=model.reason,
            task=model.task,
            architecture=model.architecture,
            labels=tuple(model.labels),
            latent_size=model.latent_size,
            scale=model.scale,
            height=model.height,
            width=model.width,
            truncation=model.truncation,
            max_batch_size=model.max_batch_size,
            licence=model.licence,
            source=model.source,
            knobs=tuple(_knob(knob) for knob in model.knobs),
            input_channels=model.input_channels,
            channels=model.channels,
            multiple_px=model.multiple_px,
        )
        for model in reply.models
    ]


def _knob(knob: pb.Knob) -> Knob:
    return Knob(
        name=knob.name,
        description=knob.description,
        minimum=knob.minimum if knob.HasField("minimum") else None,
        maximum=knob.maximum if knob.HasField("maximum") else None,
        default=knob.default if knob.HasField("default") else None,
        shape=tuple(knob.shape),
    )
