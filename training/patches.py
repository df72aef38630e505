"""What adversarial picture-to-picture training shares: PatchGAN, the pool of past pictures, augmentation, sheets.

PatchGAN as in Isola, Zhu, Zhou, Efros 2016, arXiv:1611.07004; the pool after Shrivastava et al. 2016, arXiv:1612.07828.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from training.metrics.judge import to_signed

SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Scores overlapping patches: (N, inputs, H, W) float32, -1..1 -> (N, 1, h, w) float32, higher is more real.

    4x4 convs, `halvings` of stride 2 and two of stride 1. There are no norms, which would take from it how bright and
    how colourful a picture is; its weights are drawn so that its maps keep their scale without.
    """

    def __init__(self, inputs: int, width: int, halvings: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(inputs, width, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for step in range(1, halvings + 1):
            stride = 2 if step < halvings else 1
            layers += [nn.Conv2d(width << step - 1, width << step, 4, stride, 1), nn.LeakyReLU(SLOPE)]
        layers += [nn.Conv2d(width << halvings, 1, 4, 1, 1)]
        self.main = nn.Sequential(*layers)
        draw_weights(self)
        for layer in layers[::2]:
            nn.init.kaiming_normal_(layer.get_parameter("weight"), SLOPE)

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.main(pictures)
        return scores

    def mean_score(self, pictures: Tensor) -> Tensor:
        """(N,): the mean over each picture's patches."""
        scores: Tensor = self(pictures).mean((1, 2, 3))
        return scores


def draw_weights(network: nn.Module) -> None:
    """Draws conv weights from N(0, 0.02) and batch-norm weights from N(1, 0.02), biases 0, as the papers do.

    A transposed conv of stride 2 begins as bilinear enlargement of a random mix of its maps: drawn weight by weight,
    its four phases would differ, which leaves a grain on even areas that training takes long to remove.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0 if isinstance(layer, nn.BatchNorm2d) else 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.ConvTranspose2d) and layer.kernel_size == (4, 4):
            taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
            mixes = 2 * layer.weight.data[:, :, :1, :1]  # as much variance as four independent weights
            layer.weight.data = mixes * torch.outer(taps, taps)


class PicturePool:
    """The last `size` generated pictures: the discriminator sees a past one for every second new one."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: list[Tensor] = []

    def exchange(self, pictures: Tensor, random: torch.Generator) -> Tensor:
        """(N, C, H, W) float32: each of `pictures`, detached, or a past one in whose place it is kept."""
        return torch.stack([self._exchange(picture, random) for picture in pictures.detach()])

    def _exchange(self, picture: Tensor, random: torch.Generator) -> Tensor:
        if len(self.kept) < self.size:
            self.kept.append(picture)
            return picture
        draw, place = torch.rand((), generator=random), torch.randint(self.size, (), generator=random)
        if draw < 0.5:
            return picture
        past, self.kept[int(place)] = self.kept[int(place)], picture
        return past


def jitter(pictures: Tensor, reach_px: int, random: torch.Generator) -> Tensor:
    """`pictures` (N, C, S, S) uint8, each moved by up to `reach_px` each way over white, every second one mirrored."""
    return crop(F.pad(pictures, (reach_px,) * 4, value=255), pictures.shape[3], random)


def crop(pictures: Tensor, size_px: int, random: torch.Generator) -> Tensor:
    """A random window of each of `pictures` (N, C, H, W), every second one mirrored: (N, C, size_px, size_px)."""
    n, _, height, width = pictures.shape
    ys = torch.randint(height - size_px + 1, (n,), generator=random).tolist()
    xs = torch.randint(width - size_px + 1, (n,), generator=random).tolist()
    mirrored = torch.rand(n, generator=random) < 0.5
    windows = [p[:, y : y + size_px, x : x + size_px] for p, y, x in zip(pictures, ys, xs, strict=True)]
    cut = torch.stack(windows)
    return torch.where(mirrored[:, None, None, None], cut.flip(3), cut)


@torch.no_grad()
def translate(network: nn.Module, pictures: Tensor, device: torch.device) -> Tensor:
    """What `network` makes of `pictures` (N, 3, H, W) uint8: (N, 3, H, W) float32, -1..1, on the CPU."""
    return torch.cat([network(to_signed(rows.to(device))).cpu() for rows in torch.split(pictures, 64)])


def held_out(count: int) -> Tensor:
    """(count,) bool: every tenth row is kept out of training, for the figures."""
    return torch.arange(count) % 10 == 9


def spread(count: int, most: int = 12) -> Tensor:
    """Up to `most` rows of `count`, evenly spread: those that a sample sheet shows."""
    return torch.linspace(0, count - 1, min(most, count)).round().long()


def save_half(network: nn.Module, path: Path) -> None:
    """Writes the network's weights as safetensors in float16; counters as they are."""
    state = {key: tensor.cpu().contiguous() for key, tensor in network.state_dict().items()}
    halved = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(halved, path)
