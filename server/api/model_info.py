"""What ListModels says of a model: its family and task, its pictures, and every knob that a request may set."""

from artifact.spec import Spec
from ganserve.v1 import images_pb2 as pb
from server.images import latents
from server.repository.repository import IndexEntry


def describe(entry: IndexEntry) -> pb.Model:
    """One version of the index as the caller sees it."""
    model = pb.Model(
        name=entry.name,
        version=str(entry.version) if entry.version else "",
        state=entry.state,
        reason=entry.reason,
        max_batch_size=entry.max_batch_size,
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
        model.channels = spec.outputs[0].shape[-1 if spec.tensors == "uint8" else 0]
        model.multiple_px = 1 if spec.tile is not None else spec.multiple_px
        model.truncation = spec.truncation_default is not None
        model.licence = spec.provenance.licence
        model.source = spec.provenance.source
        if spec.tensors == "uint8":  # others are served as plain tensors only
            model.knobs.extend(knobs(spec))
    return model


def knobs(spec: Spec) -> list[pb.Knob]:
    """What a GenerateRequest may set for each image, with the limits that `orders` and `latents` refuse beyond."""
    if not spec.task.draws:
        return []
    most_seed = latents.SEEDS - 1
    beside = "; not with w" if spec.w_shape is not None else ""
    found = [
        pb.Knob(name="seed", description="the same seed is the same picture", minimum=0, maximum=most_seed),
        pb.Knob(name="latent", description="in place of a seed; standard normal", shape=[spec.latent_size]),
    ]
    if spec.w_shape is not None:
        what = "in place of a seed; the latent behind the mapping network, one for all layers or one for each"
        found.append(pb.Knob(name="w", description=what, shape=spec.w_shape))
    if spec.labels:
        what = "class by index or name; must be given" + beside
        found.append(pb.Knob(name="label", description=what, minimum=0, maximum=len(spec.labels) - 1))
    if spec.truncation_default is not None:
        least, most = spec.truncation_range
        found.append(
            pb.Knob(
                name="truncation",
                description="psi: 1 is none, less is nearer to the mean picture" + beside,
                minimum=least,
                maximum=most,
                default=spec.truncation_default,
            )
        )
    if spec.noise_size:
        what = "where the noise is from; else the image's own seed, 0 for one without"
        found.append(pb.Knob(name="noise_seed", description=what, minimum=0, maximum=most_seed))
    return found
