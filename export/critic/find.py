"""What `--discriminator` asks for: the discriminator's weights, found and built before anything slow."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from artifact.repository import sha256_of
from artifact.spec import Provenance
from export.errors import ExportError
from models.architecture import ArchitectureError
from models.checkpoints.read import CheckpointError
from models.critics.catalogue import LAYOUTS, build
from models.critics.critic import Critic, Judged
from models.critics.read import Discriminator, read_discriminator

AUTO, NONE, SAME = "auto", "none", "same"
# Of a discriminator beside its generator: NAME.safetensors, NAME-discriminator.safetensors.
ENDING = "-discriminator.safetensors"


@dataclass(frozen=True)
class FoundCritic:
    """A critic, what its layout is called, where its weights come from, and whether the user asked for it."""

    critic: Critic
    layout: str
    provenance: Provenance
    asked: bool


def check_option(option: str) -> None:
    """Checks what can be checked without reading anything.

    Raises:
        ExportError: it names a file that is not there.
    """
    if option not in (AUTO, NONE, SAME) and not Path(option).is_file():
        raise ExportError(f"--discriminator {option}: no such file; or auto, same (as the checkpoint) or none")


def find_critic(
    option: str, checkpoint: Path, judged: Judged | None, generator: Provenance, progress: Callable[[str], None]
) -> tuple[FoundCritic | None, tuple[str, ...]]:
    """The critic that is wanted, None without one; and what the user should know.

    Args:
        option: auto: the one in the checkpoint's file or beside it; same: that in its file; none; or a file.
        checkpoint: the generator's, a file or a folder.
        judged: what the generator makes; None: no images from latents.
        generator: where the generator's weights come from.

    Raises:
        ExportError: one was asked for, and there is none, or it does not fit the generator.
    """
    if option == NONE or (option == AUTO and judged is None):
        return None, ()
    said = f"--discriminator {option}"
    if judged is None:
        raise ExportError(f"{said}: a discriminator judges the images of a generator that gives pixels from latents")
    path = _path(option, checkpoint)
    if path is None:
        if option == SAME:
            raise ExportError(f"{said}: {checkpoint.name} is a folder; give the file")
        return None, ()
    is_shared = path.exists() and path.samefile(checkpoint)
    try:
        found = read_discriminator(path, is_shared)
        if found is None:
            if option == AUTO and is_shared:
                return None, ()
            what = "is called a known discriminator" if is_shared else "is a known discriminator"
            raise CheckpointError(f"{path.name}: nothing in it {what}; there are {', '.join(LAYOUTS)}")
        critic, layout = _built(found, judged)
    except (CheckpointError, ArchitectureError) as error:
        if option != AUTO:
            raise ExportError(f"{said}: {error}") from None
        return None, (f"no critic: {error}; --discriminator none says that none is wanted",)
    progress(f"discriminator: {layout}, from {path.name}{f', key {found.key}' if found.key else ''}")
    provenance = Provenance(
        generator.source if is_shared else f"{path.name}, beside {generator.source}",
        generator.licence if is_shared or path.name.endswith(ENDING) else "not stated in the file",
        found.sha256,
        notes=_notes(found, critic),
    )
    return FoundCritic(critic, layout, provenance, option != AUTO), ()


def find_in_file(
    option: str, graph: Path, judged: Judged | None, progress: Callable[[str], None]
) -> FoundCritic | None:
    """The critic of a generator that is an ONNX graph: only in a file that the user names, since a graph holds none.

    Raises:
        ExportError: it is none, or does not fit the generator.
    """
    if option in (AUTO, NONE):
        return None
    if option == SAME:
        raise ExportError(f"--discriminator {SAME}: an ONNX graph holds no discriminator; give a file")
    return find_critic(
        option, graph, judged, Provenance(graph.name, "not stated in the file", sha256_of(graph)), progress
    )[0]


def _path(option: str, checkpoint: Path) -> Path | None:
    if option not in (AUTO, SAME):
        return Path(option)
    if not checkpoint.is_file():
        return None
    beside = checkpoint.with_name(checkpoint.stem + ENDING)
    return beside if option == AUTO and beside.is_file() else checkpoint


def _built(found: Discriminator, judged: Judged) -> tuple[Critic, str]:
    """The critic, and its layout's name.

    Raises:
        ArchitectureError: it does not fit.
    """
    if len(found.layouts) > 1:
        raise ArchitectureError(f"its discriminator fits {', '.join(found.layouts)}")
    return build(found.layouts[0], found.state, judged, found.config), found.layouts[0]


def _notes(found: Discriminator, critic: Critic) -> tuple[str, ...]:
    notes = [f"taken from key {found.key}"] if found.key else []
    if critic.assumed:
        listed = ", ".join(f"{key}={value}" for key, value in critic.assumed.items())
        notes.append(f"assumed, since the file does not say it: {listed}")
    return tuple(notes)
