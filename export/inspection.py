"""What a checkpoint is, without exporting it: the function behind `ganserve inspect`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from artifact.spec import Scalar, Task, TensorSpec
from export.graph.trace import tensor_specs
from export.source import open_source
from models.architecture import Generator, Setting
from models.catalogue import ARCHITECTURES, settable


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint is.

    `parameters` is a count, `dtype` the file's, `inputs` those of the graph as an export of it would have.
    `assumed`: what no tensor and no file says, as `name=value`, with its meaning and what changes it. `settings`: what
    `--set` can change for this architecture, with the meaning of each.
    """

    architecture: str
    reference: str
    hyperparameters: Mapping[str, Scalar]
    task: str
    picture: str
    inputs: tuple[str, ...]
    assumed: Mapping[str, str]
    settings: Mapping[str, str]
    parameters: int
    dtype: str
    notes: tuple[str, ...]


def inspect(
    checkpoint: Path | str,
    arch: str = "auto",
    overrides: Mapping[str, str] | None = None,
    cache_dir: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
    key: str | None = None,
) -> Inspection:
    """What the checkpoint (a path or a zoo name) is, without exporting it.

    Raises:
        ExportError: it cannot be fetched, read or recognised.
    """
    source = open_source(checkpoint, arch, overrides or {}, cache_dir, progress, key)
    generator, entry = source.generator, ARCHITECTURES[source.architecture]
    settings = settable(source.architecture, generator)
    tensors = "float32" if generator.task is Task.ENCODER else "uint8"
    return Inspection(
        architecture=source.architecture,
        reference=entry.reference,
        hyperparameters=generator.hyperparameters,
        task=generator.task.value,
        picture=_picture(generator),
        inputs=tuple(_described(tensor) for tensor in tensor_specs(generator, tensors)[0]),
        assumed={
            f"{name}={value}": f"{settings[name].meaning}; --set {name}={_choices(settings[name])}"
            for name, value in source.assumed.items()
        },
        settings={name: setting.meaning for name, setting in settings.items()},
        parameters=sum(parameter.numel() for parameter in generator.network.parameters()),
        dtype=source.checkpoint.dtype,
        notes=(*source.checkpoint.notes, *generator.notes),
    )


def _picture(generator: Generator) -> str:
    height, width = generator.image_size_px
    if generator.task is Task.ENCODER and generator.w_shape is not None:
        return f"{width}x{height}, {generator.channels} channel(s) -> w of {generator.w_shape[0]} layers"
    if generator.task.draws:
        return f"{width}x{height}, {generator.channels} channel(s)"
    if generator.task is Task.SUPER_RESOLUTION:
        return f"x{generator.scale}, {generator.channels} channel(s)"
    sizes = "" if generator.multiple_px == 1 else f", sizes in multiples of {generator.multiple_px} px"
    sizes = f", {width}x{height} only" if width else sizes
    return f"{generator.image_channels} -> {generator.channels} channel(s){sizes}"


def _choices(setting: Setting) -> str:
    return "|".join(setting.choices) or type(setting.default).__name__.upper()


def _described(tensor: TensorSpec) -> str:
    return f"{tensor.name} {tensor.dtype} ({', '.join(['N', *('free' if d < 0 else str(d) for d in tensor.shape)])})"
