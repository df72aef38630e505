"""StarGAN: Choi, Choi, Kim, Ha, Kim, Choo, "StarGAN: Unified Generative Adversarial Networks for Multi-Domain
Image-to-Image Translation", 2017, arXiv:1711.09020.

Reads yunjey/stargan's `<iteration>-G.ckpt`. The attributes that the image shall have go in beside it, all of them:
hair, sex and age of a face, or its expression. Their number follows from the first conv, their names and order from the
training (`--labels FILE`); for 5, 8 and 15 those of the repository's own trainings are taken. Of a training on both
sets (15) the last two say which set's attributes are given. Widths and the number of blocks are read from the weights.
The repository's test never leaves training mode, so norms take their statistics from each picture, which is then never
cut into tiles; `--set norm_statistics=stored` takes those of the training, with which the pictures differ.
"""

from collections.abc import Mapping

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, Setting, StateDict
from models.families.translation.translator_layers import holds, last_index, norm, without_statistics
from models.state_dict import load, shape

HALVINGS = 2
FIRST_BLOCK = 9
CELEBA = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young")
RAFD = ("angry", "contemptuous", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
NAMES = {"celeba": CELEBA, "rafd": RAFD, "both": (*CELEBA, *RAFD, "CelebA", "RaFD")}
SETTINGS = {
    "labels": Setting(
        "auto",
        "what the attributes are, in the training's order; auto: by their number, 5, 8 or 15; none: they have numbers",
        ("auto", *NAMES, "none"),
    ),
    "norm_statistics": Setting(
        "picture",
        "norms by each image's own statistics, as the repository's test has them, or by the stored ones",
        ("picture", "stored"),
    ),
}


class Block(nn.Module):
    """Two 3x3 convs with norms, added to the input."""

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        convs = [nn.Conv2d(width, width, 3, 1, 1, bias=False) for _ in range(2)]
        self.main = nn.Sequential(convs[0], norm(kind, width), nn.ReLU(), convs[1], norm(kind, width))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) float32 from the same."""
        change: torch.Tensor = self.main(maps)
        return maps + change


class StarganGenerator(nn.Module):
    """7x7 conv, two halvings, blocks, two doublings, 7x7 conv and tanh, of the image and maps of the attributes.

    Args:
        channels: of the image.
        attributes: their number.
        width: of the outermost maps.
        blocks: their number.
        kind: of the norms, see `translator_layers.norm`.
    """

    def __init__(self, channels: int, attributes: int, width: int, blocks: int, kind: str) -> None:
        super().__init__()

        def finished(conv: nn.Module, after: int) -> list[nn.Module]:
            return [conv, norm(kind, after), nn.ReLU()]

        layers = finished(nn.Conv2d(channels + attributes, width, 7, 1, 3, bias=False), width)
        for step in range(HALVINGS):
            after = width << step + 1
            layers += finished(nn.Conv2d(after // 2, after, 4, 2, 1, bias=False), after)
        layers += [Block(width << HALVINGS, kind) for _ in range(blocks)]
        for step in reversed(range(HALVINGS)):
            after = width << step
            layers += finished(nn.ConvTranspose2d(2 * after, after, 4, 2, 1, bias=False), after)
        self.main = nn.Sequential(*layers, nn.Conv2d(width, channels, 7, 1, 3, bias=False), nn.Tanh())

    def forward(self, image: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) float32 in [-1, 1].

        Args:
            image: (N, C, H, W) float32 in [-1, 1], H and W multiples of 4.
            attributes: (N, A) float32, 1 for those that the image shall have, else 0.
        """
        maps = attributes[:, :, None, None].expand(-1, -1, image.shape[2], image.shape[3])
        translated: torch.Tensor = self.main(torch.cat([image, maps], dim=1))
        return translated


def _sizes(state: StateDict) -> tuple[int, int, int, int]:
    """(channels, attributes, width, blocks); 0 attributes if it is none."""
    first = shape(state, "main.0.weight", 4)
    channels = shape(state, f"main.{last_index(state, 'main.')}.weight", 4)[0]
    blocks = sum(f"main.{place}.main.0.weight" in state for place in range(FIRST_BLOCK, FIRST_BLOCK + len(state)))
    return channels, max(0, first[1] - channels) if channels in (1, 3) and blocks else 0, first[0], blocks


def _matches(state: StateDict) -> bool:
    sizes = _sizes(state)
    if not sizes[1] or not sizes[2]:
        return False
    return any(holds(lambda kind=kind: StarganGenerator(*sizes, kind), state) for kind in ("batch", "picture"))  # type: ignore[misc]


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    channels, attributes, width, blocks = _sizes(state)
    stored = settings["norm_statistics"] == "stored" and "main.1.running_mean" in state
    weights = state if stored else without_statistics(state)
    kind = "batch" if stored else "picture"
    asked = str(settings["labels"])
    names = (
        next((each for each in NAMES.values() if len(each) == attributes), ()) if asked == "auto" else NAMES.get(asked)
    )
    numbers = tuple(map(str, range(attributes)))
    return Generator(
        network=load(StarganGenerator(channels, attributes, width, blocks, kind), weights),
        task=Task.IMAGE_TO_IMAGE,
        hyperparameters={
            "c_dim": attributes,
            "conv_dim": width,
            "repeat_num": blocks,
            "channels": channels,
            "norm_statistics": "stored" if stored else "picture",
        },
        channels=channels,
        output_range=(-1.0, 1.0),
        max_batch_size=4,
        input_range=(-1.0, 1.0),
        input_channels=channels,
        attributes=names if names and len(names) == attributes else numbers,
        multiple_px=2**HALVINGS,
        least_px=2 ** (HALVINGS + 1),
    )


def _relative(state: StateDict) -> str | None:
    scores, classes = shape(state, "conv1.weight", 4), shape(state, "conv2.weight", 4)
    if scores[0] == 1 and scores[2:] == (3, 3) and classes[0] and shape(state, "main.0.weight", 4)[2:] == (4, 4):
        return "a StarGAN discriminator (<iteration>-D.ckpt), not the generator"
    return None


ARCHITECTURE = Architecture(
    name="stargan",
    reference="yunjey/stargan",
    matches=_matches,
    build=_build,
    settings=SETTINGS,
    relative=_relative,
)
