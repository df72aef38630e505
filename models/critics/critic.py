"""What a discriminator's layout offers: recognises its state dicts, and builds the network that scores images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from artifact.spec import Scalar
from models.architecture import ArchitectureError, StateDict


@dataclass(frozen=True)
class Judged:
    """The generator whose images are judged: (C, H, W) of them, and its classes (0: none)."""

    shape: tuple[int, int, int]
    classes: int


@dataclass(frozen=True)
class Critic:
    """A discriminator built from its own weights.

    `network` is in eval mode, float32: images (N, C, H, W) float32, in the range of the generator's output, and with
    `classes` their labels (N,) int64 -> scores (N,) float32, before any sigmoid; higher means more like the training
    data. `group`: images whose spread in a batch it was trained to see, the image itself among them; then it is a
    `Compares`, and the others are references. 0: it sees each image alone. `assumed`: what no tensor says.
    """

    network: nn.Module
    classes: int = 0
    group: int = 0
    hyperparameters: Mapping[str, Scalar] = field(default_factory=dict)
    assumed: Mapping[str, Scalar] = field(default_factory=dict)


class Compares(nn.Module):
    """A critic that sees the spread of a batch: `body`, the deviation from references, then what makes the score."""

    def __init__(self, body: nn.Module, group: int) -> None:
        super().__init__()
        self.body = body
        self.group = group

    def refer(self, images: Tensor) -> None:
        """Takes `group` - 1 images (C, H, W): every image is judged as if in a batch with these, and no others."""
        assert len(images) == self.group - 1, "one place is the image's own"
        for number, image in enumerate(images):
            self.register_buffer(f"reference_{number}", self.body(image[None]).detach(), persistent=False)

    @property
    def references(self) -> tuple[Tensor, ...]:
        """What `body` gives for each of the images, (1, C, H, W)."""
        return tuple(self.get_buffer(f"reference_{number}") for number in range(self.group - 1))

    def deviation(self, features: Tensor, eps: float = 1e-8) -> Tensor:
        """(N, 1, H, W): the standard deviation of `features` (N, C, H, W) over the group, averaged over all values."""
        mean = features
        for other in self.references:
            mean = mean + other
        mean = mean / self.group
        spread = (features - mean).square()
        for other in self.references:
            spread = spread + (other - mean).square()
        number = (spread / self.group + eps).sqrt().mean((1, 2, 3), keepdim=True)
        return number.expand(-1, 1, features.shape[2], features.shape[3])


@dataclass(frozen=True)
class Layout:
    """How one repository names a discriminator's weights.

    `matches`: whether the keys and shapes are this discriminator's. `build`: the critic from its own state dict, for
    the images of a generator; `config` is what the file says besides (`models.checkpoints.pickle.modules.facts`).
    """

    name: str
    reference: str
    matches: Callable[[StateDict], bool]
    build: Callable[[StateDict, Judged, Mapping[str, object]], Critic]


def require_side(side: int, judged: Judged) -> None:
    """Checks that the generator's images are squares of that side.

    Raises:
        ArchitectureError: they are not.
    """
    _, height, width = judged.shape
    if (height, width) != (side, side):
        raise ArchitectureError(f"judges images of {side}x{side} px, the generator's have {width}x{height}")


def require_channels(channels: int, judged: Judged) -> None:
    """Checks the number of channels.

    Raises:
        ArchitectureError: it is another.
    """
    if channels != judged.shape[0]:
        raise ArchitectureError(f"judges images of {channels} channels, the generator's have {judged.shape[0]}")


def require_classes(classes: int, judged: Judged) -> None:
    """Checks the number of classes of a critic that takes labels.

    Raises:
        ArchitectureError: it is another.
    """
    if classes != judged.classes:
        raise ArchitectureError(f"judges images of {classes} classes, the generator has {judged.classes}")


def layer_fact(config: Mapping[str, object], name: str, default: float, assumed: dict[str, Scalar]) -> float:
    """A value of layers that a network pickled whole says; else the default, noted in `assumed`."""
    value = config.get(f"layers.{name}")
    if isinstance(value, int | float):
        return float(value)
    assumed[name] = default
    return default
