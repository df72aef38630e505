"""The convolutional generators of eriklindernoren/PyTorch-GAN: same modules, same keys. Widths there: 128, 128, 64."""

import torch
from torch import Tensor, nn


class Plain(nn.Module):
    """dcgan, began, dragan, relativistic_gan; without `first_norm` lsgan and ebgan."""

    def __init__(
        self, inputs: int, widths: tuple[int, int, int], channels: int, img_size: int, first_norm: bool
    ) -> None:
        super().__init__()
        self.init_size = img_size // 4
        self.width = widths[0]
        self.l1 = nn.Sequential(nn.Linear(inputs, widths[0] * self.init_size**2))
        first: list[nn.Module] = [nn.BatchNorm2d(widths[0])] if first_norm else []
        self.conv_blocks = nn.Sequential(
            *first,
            nn.Upsample(scale_factor=2),
            nn.Conv2d(widths[0], widths[1], 3, stride=1, padding=1),
            nn.BatchNorm2d(widths[1], 0.8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(widths[1], widths[2], 3, stride=1, padding=1),
            nn.BatchNorm2d(widths[2], 0.8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(widths[2], channels, 3, stride=1, padding=1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        out = self.l1(z)
        out = out.view(out.shape[0], self.width, self.init_size, self.init_size)
        image: Tensor = self.conv_blocks(out)
        return image


class Labelled(Plain):
    """acgan, with `uses_label` False sgan, which makes an embedding and forgets it."""

    def __init__(
        self, classes: int, latent: int, widths: tuple[int, int, int], img_size: int, uses_label: bool
    ) -> None:
        super().__init__(latent, widths, 1, img_size, first_norm=True)
        self.label_emb = nn.Embedding(classes, latent)
        self.uses_label = uses_label

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(torch.mul(self.label_emb(labels), noise) if self.uses_label else noise)


class Info(Plain):
    """infogan."""

    def forward(self, noise: Tensor, labels: Tensor, code: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat((noise, labels, code), -1))
