"""Conditional GAN: Mirza, Osindero, "Conditional Generative Adversarial Nets", 2014, arXiv:1411.1784; with the
convolutional generator of DCGAN (Radford, Metz, Chintala, 2015, arXiv:1511.06434).

Reads the checkpoints of this repository's own recipe (`training/`): keys `label_emb.weight` and `main.<i>`.
Differences from the paper: a learned embedding of the label, appended to the latent, instead of one-hot vectors into a
perceptron; transposed convolutions as in pytorch/examples `dcgan`, the first 7 wide so that two doublings give 28 px.
"""

import itertools
from collections.abc import Mapping

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, StateDict
from models.families.basic.dcgan import EPS, stack_channels, transposed_stack
from models.state_dict import load


class ConditionalGenerator(nn.Module):
    """Generates an image of the label's class.

    Args:
        classes: number of labels.
        embedding: length of a label's embedding.
        latent: length Z of the latent.
        width: channels before the image; doubled once per step towards the latent.
        channels: of the image.
        first_kernel: side of the first map; the image is `first_kernel * 2**doublings` pixels wide.
        doublings: number of stride-2 transposed convs.
        eps: of BatchNorm.
    """

    def __init__(
        self,
        classes: int = 10,
        embedding: int = 16,
        latent: int = 64,
        width: int = 64,
        channels: int = 1,
        first_kernel: int = 7,
        doublings: int = 2,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        widths = [width * 2**step for step in reversed(range(doublings))]
        self.label_emb = nn.Embedding(classes, embedding)
        self.main = transposed_stack([latent + embedding, *widths, channels], first_kernel, eps)
        for module in self.main:
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, latent: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) float32 in [-1, 1].

        Args:
            latent: (N, Z) float32, standard normal.
            label: (N,) int64 in 0..classes-1.
        """
        code = torch.cat([latent, self.label_emb(label)], dim=1)
        image: torch.Tensor = self.main(code[:, :, None, None])
        return image


def _matches(state: StateDict) -> bool:
    found = stack_channels(state)
    embedding = state.get("label_emb.weight")
    return (
        found is not None
        and embedding is not None
        and embedding.ndim == 2
        and found[0][0] > embedding.shape[1]
        and all(before == 2 * after for before, after in itertools.pairwise(found[0][1:-1]))
        and all(key.startswith(("main.", "label_emb.")) for key in state)
    )


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    found = stack_channels(state)
    assert found is not None, "only called where _matches"
    stack, first_kernel = found
    classes, embedding = state["label_emb.weight"].shape
    doublings = len(stack) - 2
    latent, width, channels = stack[0] - embedding, stack[-2], stack[-1]
    size_px = first_kernel * 2**doublings
    network = ConditionalGenerator(
        classes, embedding, latent, width, channels, first_kernel, doublings, eps=float(settings["eps"])
    )
    return Generator(
        network=load(network, state),
        task=Task.CLASS_CONDITIONAL,
        hyperparameters={
            "classes": classes,
            "embedding": embedding,
            "latent": latent,
            "width": width,
            "channels": channels,
            "first_kernel": first_kernel,
            "image_size_px": size_px,
        },
        channels=channels,
        output_range=(-1.0, 1.0),
        max_batch_size=32,
        image_size_px=(size_px, size_px),
        latent_size=latent,
        classes=classes,
    )


ARCHITECTURE = Architecture(
    name="cgan",
    reference="ganserve training/",
    matches=_matches,
    build=_build,
    settings={"eps": EPS},
)
