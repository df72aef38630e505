"""U-Nets of eriklindernoren/PyTorch-GAN pix2pix."""

from tests.models.cases.base import Case
from tests.models.references.pytorch_gan_translators import GeneratorUNet

CASES = {
    "pix2pix": Case(
        "pix2pix",
        lambda: GeneratorUNet(3, 3, 4, 8),
        {"in_channels": 3, "out_channels": 3, "width": 4, "num_downs": 8},
        (2, 256, 512, 3),
        sizes_px=((256, 512), (256, 256)),
    ),
    "pix2pix-5-grey": Case(
        "pix2pix",
        lambda: GeneratorUNet(1, 3, 4, 5),
        {"in_channels": 1, "out_channels": 3, "width": 4, "num_downs": 5},
        (2, 64, 96, 3),
        sizes_px=((64, 96), (96, 32)),
        graph=True,
    ),
}
