"""What a call returns: images with what is known about them, and the served models."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganserve.client.formats import FORMAT_NAMES
from ganserve.client.received import ReceivedImage, Timings
from ganserve.v1 import images_pb2 as pb


@dataclass(frozen=True)
class StepReport:
    """A model that a generated image went through: in how many tiles, and the items in the largest batch of these."""

    model: str
    version: str
    tiles: int
    batch_size: int


@dataclass(frozen=True)
class Choice:
    """How an image was chosen among candidates: by `best_of`, `min_percentile` or `drs_percentile`.

    Attributes:
        score: of the model's critic.
        percentile: 0..100, share of the model's own images that score lower.
        candidates: how many were generated.
        accepted: whether the rule took it; else it is the best of those that it did not take.
    """

    score: float
    percentile: float
    candidates: int
    accepted: bool


@dataclass(frozen=True)
class GeneratedImage(ReceivedImage):
    """An image from a generator.

    Attributes:
        index: position in the request.
        seed: None if the latent or w was given.
        label: class index; None if the model has no classes.
        noise_seed: None if the model has no noise inputs.
        batch_size: items in the batch that it ran in, other callers' included; for images of one reply, those of the
            largest batch.
        then: the models that it went through after the generator `model`.
        w: what it was generated from, (layers, w size) float32, if `return_w` was set.
        choice: how it was chosen; None if there was nothing to choose. Its `seed` alone gives the image again.
    """

    index: int
    seed: int | None
    label: int | None
    noise_seed: int | None
    batch_size: int
    then: tuple[StepReport, ...] = ()
    w: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    choice: Choice | None = None


@dataclass(frozen=True)
class Upscaled(ReceivedImage):
    """An enlarged image, the number of tiles it was cut into and the items in the largest batch that they ran in.

    `warnings`: what of the sent image was not kept, such as its 16 bits.
    """

    tiles: int
    batch_size: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Translated(ReceivedImage):
    """An image made from another, and the items in the batch that it ran in. `warnings`: as of `Upscaled`. `seed` and
    `label`: of the style and the domain, if the model has them."""

    batch_size: int
    warnings: tuple[str, ...] = ()
    seed: int | None = None
    label: int | None = None


@dataclass(frozen=True)
class Knob:
    """A parameter of a model that `generate` may set, or `translate`: seed, latent, w, label, truncation, noise_seed,
    reference.

    Attributes:
        minimum: lower limit; None: any finite number.
        maximum: upper limit; None: any finite number.
        default: None if it is not a single number.
        shape: of one image's value; () for a number.
    """

    name: str
    description: str
    minimum: float | None
    maximum: float | None
    default: float | None
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Judge:
    """A network that says what a generator's images show.

    Attributes:
        classes: their names, by index of its scores.
        grouped: whether these are groups that its features of the model's own images fall into.
        sha256: of its graph.
        source: the file that it was made from.
    """

    classes: tuple[str, ...]
    grouped: bool
    sha256: str
    source: str


@dataclass(frozen=True)
class JudgeGraph(Judge):
    """The same with its ONNX `graph`: `image` (N, H, W, C) uint8 as the model gives it -> `features`, `scores`."""

    graph: bytes = field(repr=False)


@dataclass(frozen=True)
class ServedModel:
    """One version of one model in the server's repository.

    Attributes:
        state: READY, LOADING, UNLOADING or UNAVAILABLE.
        reason: why it is not ready.
        task: unconditional, class-conditional, super-resolution, image-to-image or encoder; empty if the model is
            served as plain tensors only.
        architecture: family of generators.
        labels: class names by index.
        scale: output side / input side of upscalers and translators.
        height: of the generated image in px; of the only size that a translator takes; 0: any, as the input's.
        width: as `height`.
        knobs: parameters that `generate` may set.
        input_channels: of the input image; 0 for generators.
        channels: of the output image.
        multiple_px: multiple that `translate` pads the input's sides to.
        engine: what runs it (onnx, openvino, tensorrt), empty while it is not ready.
        precision: that it computes in: fp32, bf16 or fp16; empty if the server does not know.
        engine_choice: why this engine, if the server measured several.
        sha256: of its graph, model.onnx; empty if it has no manifest.
        critic: layout of the discriminator that `score` asks; empty: there is none.
        judge: the network that says what its images show; None: there is none.
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
    engine: str = ""
    precision: str = ""
    engine_choice: str = ""
    sha256: str = ""
    critic: str = ""
    judge: Judge | None = None


@dataclass(frozen=True)
class Direction:
    """A direction in a model's latent space, along which `edits` change images.

    Attributes:
        index: by which edits may name it too.
        kind: how it was found: jacobian, sefa, pca or file.
        sigma: length of what a strength of 1 adds to the latent, or to each layer of w.
        space: what edits act on: latent or w.
        layers: of w; 1 for latents.
        per_layer: whether it has another vector for each layer.
    """

    index: int
    name: str
    kind: str
    sigma: float
    space: str
    layers: int
    per_layer: bool


Reply = pb.GenerateReply | pb.GenerateStreamReply | pb.UpscaleReply | pb.TranslateReply


def _image_fields(image: pb.Image, reply: Reply) -> dict[str, Any]:
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


def _generated(
    image: pb.Image, reply: pb.GenerateReply | pb.GenerateStreamReply, index: int, batch_size: int
) -> GeneratedImage:
    return GeneratedImage(
        **_image_fields(image, reply),
        index=index,
        seed=image.seed if image.HasField("seed") else None,
        label=image.label if image.HasField("label") else None,
        noise_seed=image.noise_seed if image.HasField("noise_seed") else None,
        batch_size=batch_size,
        then=tuple(StepReport(step.model, step.version, step.tiles, step.largest_batch) for step in reply.then),
        w=np.frombuffer(image.w, "<f4").reshape(image.w_layers, -1) if image.w else None,
        choice=_choice(image.choice) if image.HasField("choice") else None,
    )


def _choice(choice: pb.Choice) -> Choice:
    return Choice(choice.score, choice.percentile, choice.candidates, choice.accepted)


def read_generated(reply: pb.GenerateReply) -> list[GeneratedImage]:
    """The images of a reply, in the order of the request."""
    return [_generated(image, reply, index, reply.largest_batch) for index, image in enumerate(reply.images)]


def read_streamed(reply: pb.GenerateStreamReply) -> GeneratedImage:
    """The image of one reply of a stream."""
    return _generated(reply.image, reply, reply.index, reply.batch_size)


def read_upscaled(reply: pb.UpscaleReply) -> Upscaled:
    """The image of a reply."""
    return Upscaled(
        **_image_fields(reply.image, reply),
        tiles=reply.tiles,
        batch_size=reply.largest_batch,
        warnings=tuple(reply.warnings),
    )


def read_translated(reply: pb.TranslateReply) -> Translated:
    """The image of a reply."""
    image = reply.image
    return Translated(
        **_image_fields(image, reply),
        batch_size=reply.batch_size,
        warnings=tuple(reply.warnings),
        seed=image.seed if image.HasField("seed") else None,
        label=image.label if image.HasField("label") else None,
    )


def read_models(reply: pb.ListModelsReply) -> list[ServedModel]:
    """The models of a reply, in the server's order."""
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
            engine=model.engine,
            precision=model.precision,
            engine_choice=model.engine_choice,
            sha256=model.sha256,
            critic=model.critic.architecture,
            judge=Judge(**_judge_fields(model.judge)) if model.HasField("judge") else None,
        )
        for model in reply.models
    ]


def read_judge(reply: pb.GetJudgeReply) -> JudgeGraph:
    """The judge of a reply."""
    return JudgeGraph(**_judge_fields(reply.judge), graph=reply.graph)


def _judge_fields(judge: pb.Judge) -> dict[str, Any]:
    fields = {"grouped": judge.grouped, "sha256": judge.sha256, "source": judge.source}
    return {**fields, "classes": tuple(judge.classes)}


def read_directions(reply: pb.ListDirectionsReply) -> list[Direction]:
    """The directions of a reply, by index."""
    return [
        Direction(index, each.name, each.kind, each.sigma, reply.space, reply.layers, each.per_layer)
        for index, each in enumerate(reply.directions)
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
