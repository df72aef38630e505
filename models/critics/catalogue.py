"""The discriminators that are read, and which of them a state dict is."""

from collections.abc import Mapping

from models.architecture import ArchitectureError, StateDict
from models.critics import conditional, convolutional, perceptron, stylegan2
from models.critics.critic import Critic, Judged, Layout

LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        perceptron.LAYOUT,
        convolutional.LAYOUT,
        conditional.PROJECTION,
        conditional.CDCGAN,
        stylegan2.ROSINALITY,
        stylegan2.NVIDIA,
        stylegan2.OWN,
    )
}


def recognise(state: StateDict) -> tuple[str, ...]:
    """The names of the layouts whose discriminator these weights may be."""
    return tuple(layout.name for layout in LAYOUTS.values() if layout.matches(state))


def build(name: str, state: StateDict, judged: Judged, config: Mapping[str, object]) -> Critic:
    """The critic of a generator's images.

    Raises:
        ArchitectureError: the weights do not fit together, or the critic not the generator.
    """
    try:
        return LAYOUTS[name].build(state, judged, config)
    except ArchitectureError as error:
        raise ArchitectureError(f"{name} discriminator: {error}") from None
