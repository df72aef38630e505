"""The architectures that can be exported, and which of them a state dict is."""

from collections.abc import Mapping

from models import cgan, dcgan, rrdb, srvgg
from models.architecture import Architecture, ArchitectureError, Generator, StateDict

ARCHITECTURES: Mapping[str, Architecture] = {
    entry.name: entry
    for entry in (
        dcgan.ARCHITECTURE,
        cgan.ARCHITECTURE,
        srvgg.ARCHITECTURE,
        rrdb.ARCHITECTURE,
    )
}


def detect(state: StateDict, among: Mapping[str, Architecture] = ARCHITECTURES) -> Architecture:
    """The one architecture whose generator these weights are.

    Raises:
        ArchitectureError: none, several, or a relative that is no generator.
    """
    found = [entry for entry in among.values() if entry.matches(state)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(entry.name for entry in found)
        raise ArchitectureError(f"the weights fit {names}; say which with --arch")
    for entry in among.values():
        if sentence := entry.relative(state):
            raise ArchitectureError(f"the weights are {sentence}")
    keys = ", ".join(list(state)[:3])
    raise ArchitectureError(
        f"no known generator: {len(state)} tensors, beginning {keys}; known architectures: {', '.join(among)}"
    )


def build(state: StateDict, name: str = "auto", overrides: Mapping[str, str] | None = None) -> tuple[str, Generator]:
    """(architecture's name, generator) of a state dict; `overrides` are the user's `--set KEY=VALUE`.

    Raises:
        ArchitectureError: unknown or wrong architecture, unknown setting, or weights that do not fit.
    """
    if name != "auto" and name not in ARCHITECTURES:
        raise ArchitectureError(f"--arch {name}: must be auto or one of {', '.join(ARCHITECTURES)}")
    entry = detect(state) if name == "auto" else ARCHITECTURES[name]
    if not entry.matches(state):
        sentence = entry.relative(state) or f"beginning {', '.join(list(state)[:3])}"
        raise ArchitectureError(f"--arch {name}: the weights are not its generator: {sentence}")
    settings = {key: setting.default for key, setting in entry.settings.items()}
    for key, text in (overrides or {}).items():
        if key not in entry.settings:
            can = ", ".join(entry.settings) or "nothing"
            raise ArchitectureError(f"--set {key}: {entry.name} reads it from the weights or has none; settable: {can}")
        settings[key] = entry.settings[key].parse(key, text)
    try:
        return entry.name, entry.build(state, settings)
    except ArchitectureError as error:
        raise ArchitectureError(f"{entry.name}: {error}") from None
