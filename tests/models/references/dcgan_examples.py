"""pytorch/examples' DCGAN generator, and the conditional one of this repository's `digits`, layer by layer."""

import itertools

import torch
from torch import Tensor, nn


class Dcgan(nn.Module):
    """nz numbers on one pixel to 4x4, then doubled; `widths` are the channels of the maps, the image's last."""

    def __init__(self, nz: int, widths: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ConvTranspose2d(nz, widths[0], 4, 1, 0, bias=False)]
        for before, after in itertools.pairwise(widths):
            layers += [nn.BatchNorm2d(before), nn.ReLU(True)]
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
        self.main = nn.Sequential(*layers, nn.Tanh())

    def forward(self, latent: Tensor) -> Tensor:
        image: Tensor = self.main(latent.reshape(len(latent), -1, 1, 1))
        return image


class ConditionalDigits(nn.Module):
    """The label's embedding behind the latent; 1 px, 7 px, 14 px, 28 px."""

    def __init__(self, classes: int, embedding: int, latent: int, width: int) -> None:
        super().__init__()
        self.label_emb = nn.Embedding(classes, embedding)
        self.main = nn.Sequential(
            nn.ConvTranspose2d(latent + embedding, 2 * width, 7, 1, 0, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(True),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(True),
            nn.ConvTranspose2d(width, 1, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        joined = torch.cat((latent, self.label_emb(label)), 1)
        image: Tensor = self.main(joined.unsqueeze(2).unsqueeze(3))
        return image
