"""What ListModels says of a model: its architecture and task, its images, and what a request may set."""

from artifact.repository import JUDGE, ONNX
from artifact.spec import REFERENCE, Spec, Task
from ganserve.v1 import images_pb2 as pb
from server.api.latent_request import MAX_DEGREES, MAX_STRENGTH, MAX_TRANSLATION
from server.images import latents
from server.images.guidance import STYLE_SEED
from server.images.latent_space import LatentSpace
from server.repository.index import IndexEntry
from server.repository.model import Model


def describe(entry: IndexEntry) -> pb.Model:
    """One version of the index as the caller sees it."""
    model = pb.Model(
        name=entry.name,
        version=str(entry.version) if entry.version else "",
        state=entry.state,
        reason=entry.reason,
        max_batch_size=entry.max_batch_size,
    )
    if entry.choice is not None:
        model.engine, model.precision, model.engine_choice = (
            entry.choice.engine,
            entry.choice.precision,
            entry.choice.why,
        )
    spec = entry.spec
    if spec is not None:
        model.task = spec.task
        model.architecture = spec.architecture
        model.labels.extend(spec.labels)
        model.latent_size = spec.latent_size
        model.scale = spec.scale
        model.height, model.width, channels = spec.image_shape
        model.input_channels = 0 if spec.task.draws else channels
        if spec.task is not Task.ENCODER:  # which gives w, no image
            model.channels = spec.outputs[0].shape[-1 if spec.tensors == "uint8" else 0]
        if spec.tensors == "uint8":  # other models are no part of the image API
            model.bits.extend([8] if spec.float_parity is None else [8, 16])
        if spec.critic is not None:
            critic = spec.critic
            model.critic.architecture, model.critic.takes_label = critic.architecture, critic.takes_label
            model.critic.images = critic.images
        if spec.judge is not None:
            model.judge.CopyFrom(describe_judge(spec))
        model.multiple_px = 1 if spec.tile is not None else spec.multiple_px
        model.truncation = spec.truncation_default is not None
        model.licence = spec.provenance.licence
        model.source = spec.provenance.source
        model.sha256 = spec.files.get(ONNX, "")
        if spec.tensors == "uint8":  # others are served as plain tensors only
            model.knobs.extend(parameters(spec, entry.space))
    return model


def describe_directions(model: Model) -> pb.ListDirectionsReply:
    """The directions of a model, by index."""
    directions = model.space.directions
    reply = pb.ListDirectionsReply(
        model=model.name, version=str(model.version), space=directions.space, layers=model.space.layers
    )
    for each in directions.found:
        reply.directions.add(name=each.name, kind=each.kind, sigma=each.sigma, per_layer=len(each.vector) > 1)
    return reply


def describe_judge(spec: Spec) -> pb.Judge:
    """The judge of a model that has one."""
    judge = spec.judge
    assert judge is not None, "the caller knows"
    return pb.Judge(
        classes=judge.classes,
        grouped=judge.grouped,
        features=judge.features,
        sha256=spec.files.get(JUDGE, ""),
        source=judge.provenance.source,
    )


def parameters(spec: Spec, space: LatentSpace | None = None) -> list[pb.Knob]:
    """What a GenerateRequest may set for each image, or a TranslateRequest for its image, with the limits that
    `generate_request` and `latents` enforce."""
    if not spec.task.draws:
        return _beside_image(spec)
    max_seed = latents.SEEDS - 1
    not_with_w = "; not with w" if spec.w_shape is not None else ""
    found = [
        pb.Knob(name="seed", description="the same seed gives the same image", minimum=0, maximum=max_seed),
        pb.Knob(name="latent", description="instead of a seed; standard normal", shape=[spec.latent_size]),
    ]
    if spec.w_shape is not None:
        what = "instead of a seed; the mapping network's output, one vector for all layers or one for each"
        found.append(pb.Knob(name="w", description=what, shape=spec.w_shape))
    if spec.labels:
        what = "class by index or name; required" + not_with_w
        found.append(pb.Knob(name="label", description=what, minimum=0, maximum=len(spec.labels) - 1))
    if spec.truncation_default is not None:
        low, high = spec.truncation_range
        found.append(
            pb.Knob(
                name="truncation",
                description="psi; 1: no truncation, 0: the mean image" + not_with_w,
                minimum=low,
                maximum=high,
                default=spec.truncation_default,
            )
        )
    if spec.noise_size:
        what = "seed of the noise; default: the image's seed, or 0 without one"
        found.append(pb.Knob(name="noise_seed", description=what, minimum=0, maximum=max_seed))
    if spec.takes_transform:
        what = "of what is drawn, to the right and down, in sides of the image"
        most = MAX_TRANSLATION
        found.append(pb.Knob(name="translate", description=what, minimum=-most, maximum=most, default=0, shape=[2]))
        what = "of what is drawn, counter-clockwise, in degrees"
        found.append(pb.Knob(name="rotate", description=what, minimum=-MAX_DEGREES, maximum=MAX_DEGREES, default=0))
    return found if space is None else found + _changes(space)


def _beside_image(spec: Spec) -> list[pb.Knob]:
    shapes = {tensor.name: tensor.shape for tensor in spec.inputs}
    what = "attributes that the image shall have, by index or name, all of them; required"
    if "label" in shapes:
        what = "domain that the image shall be in, by index or name; required"
    found = [pb.Knob(name="label", description=what, minimum=0, maximum=len(spec.labels) - 1)] if spec.labels else []
    instead = "; not with reference" if REFERENCE in shapes else ""
    if "latent" in shapes:
        what = "of the style in the domain" + instead
        found.append(pb.Knob(name="seed", description=what, minimum=0, maximum=latents.SEEDS - 1, default=STYLE_SEED))
    if REFERENCE in shapes:
        needed = "; instead of a seed" if "latent" in shapes else "; required"
        what = "image in the domain, whose style is wanted" + needed
        found.append(pb.Knob(name="reference", description=what, shape=shapes[REFERENCE]))
    return found


def _changes(space: LatentSpace) -> list[pb.Knob]:
    """What may be changed of a latent or w."""
    found, spec = [], space.spec
    if count := len(space.directions.found):
        what = f"strength along one of {count} directions (ListDirections), in standard deviations"
        found.append(pb.Knob(name="edit", description=what, minimum=-MAX_STRENGTH, maximum=MAX_STRENGTH, default=0))
    if space.mapping is not None and spec.w_shape is not None:
        layers, (low, high) = spec.w_shape[0], spec.truncation_range
        what = f"seed that some of the layers 0..{layers - 1} of w are taken from; not with w"
        found.append(pb.Knob(name="mix", description=what, minimum=0, maximum=latents.SEEDS - 1))
        what = "psi of each layer, for all images, instead of truncation; not with w"
        found.append(pb.Knob(name="layer_truncation", description=what, minimum=low, maximum=high, shape=[layers]))
    if count := len(space.centers):
        what = "number of the centre that truncation draws images towards, or nearest; not with w"
        found.append(pb.Knob(name="truncation_center", description=what, minimum=0, maximum=count - 1))
    return found
