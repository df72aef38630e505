"""What is written beside a generator's graph: its mapping network, directions, centres of truncation, its critic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import onnxruntime

from artifact.repository import CENTERS, MAPPING
from artifact.spec import Spec
from export.critic.find import FoundCritic, find_critic
from export.critic.write import add_critic
from export.directions.centers import check_centers, write_centers
from export.directions.files import DirectionFile
from export.directions.make import Wanted, check_wanted, make_directions
from export.directions.space import Space
from export.graph.mapping import write_mapping
from export.source import Source
from models.critics.critic import Judged


class Progress(Protocol):
    """Called with a line for each step; while a long one runs, also with the share of it that is done (0..1)."""

    def __call__(self, line: str, share: float | None = None, /) -> None:
        """Shows it."""


@dataclass(frozen=True)
class Beside:
    """What is wanted, checked as far as it can be without running the network. `notes`: what the user should know."""

    has_pixels: bool
    directions: Wanted
    centers: int
    critic: FoundCritic | None
    notes: tuple[str, ...]


def check_beside(
    source: Source,
    tensors: str,
    directions: tuple[str, Sequence[DirectionFile]],
    centers: int,
    discriminator: str,
    progress: Progress,
) -> Beside:
    """What can be had of this generator. `directions`: the method, and files.

    Raises:
        ExportError: it cannot have something that was asked for.
    """
    generator, has_pixels = source.generator, tensors == "uint8"
    has_w, shape, judged = generator.mapping is not None, None, None
    if generator.task.draws and has_pixels:
        shape = generator.w_shape or (1, generator.latent_size)
        judged = Judged((generator.channels, *generator.image_size_px), generator.classes)
    wanted = check_wanted(*directions, shape, has_w)
    check_centers(centers, has_w and has_pixels)
    critic, notes = find_critic(discriminator, source.path, judged, source.provenance, progress)
    return Beside(has_pixels, wanted, centers, critic, notes)


def write_beside(
    beside: Beside, spec: Spec, session: onnxruntime.InferenceSession, source: Source, folder: Path, progress: Progress
) -> tuple[Spec, Mapping[str, Path], tuple[str, ...]]:
    """The spec with what the manifest says of it, the files by name, and what the user should know.

    Raises:
        ExportError: a graph cannot be traced or differs from torch, or two directions have one name.
    """
    generator = source.generator
    files: dict[str, Path] = {}
    mapping: onnxruntime.InferenceSession | None = None
    if generator.mapping is not None and beside.has_pixels:
        mapping = write_mapping(generator, folder / MAPPING, progress)
        files[MAPPING] = folder / MAPPING
    space = Space(spec, session, mapping)
    notes: tuple[str, ...] = ()
    if beside.directions:
        network = None if mapping is None else generator.network
        found, notes = make_directions(beside.directions, space, network, folder, progress)
        files |= found
    if beside.centers:
        write_centers(space, beside.centers, folder / CENTERS, progress)
        files[CENTERS] = folder / CENTERS
    notes += beside.notes
    if beside.critic is not None:
        spec, more, said = add_critic(beside.critic, spec, session, generator.output_range, folder, progress)
        files |= more
        notes += said
    return spec, files, notes
