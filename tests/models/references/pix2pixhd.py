"""GlobalGenerator, LocalEnhancer and encode_input as NVIDIA/pix2pixHD defines them."""

import torch
from torch import Tensor, nn

from tests.models.references.resnet_translator import ResnetBlock
from tests.models.references.unet import norm_layer


def _finish(kind: str, channels: int) -> list[nn.Module]:
    return [norm_layer(kind, channels), nn.ReLU(True)]


class GlobalGenerator(nn.Module):
    """A residual translator with any number of halvings; every conv has a bias, whatever the norm."""

    def __init__(self, inputs: int, outputs: int, ngf: int, halvings: int, blocks: int, kind: str) -> None:
        super().__init__()
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, ngf, 7), *_finish(kind, ngf)]
        for step in range(halvings):
            wide = ngf * 2**step
            layers += [nn.Conv2d(wide, 2 * wide, 3, stride=2, padding=1), *_finish(kind, 2 * wide)]
        widest = ngf * 2**halvings
        layers += [ResnetBlock(widest, kind, biased=True, dropout=False, tracks=False) for _ in range(blocks)]
        for step in range(halvings):
            wide = ngf * 2 ** (halvings - step)
            layers += [nn.ConvTranspose2d(wide, wide // 2, 3, stride=2, padding=1, output_padding=1)]
            layers += _finish(kind, wide // 2)
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, outputs, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.model(image)
        return output


class LocalEnhancer(nn.Module):
    """A global generator that lost its last three layers, and enhancers at each doubled size."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        ngf: int,
        halvings: int,
        blocks: int,
        kind: str,
        enhancers: int = 1,
        local_blocks: int = 3,
    ) -> None:
        super().__init__()
        self.enhancers = enhancers
        whole = GlobalGenerator(inputs, outputs, ngf * 2**enhancers, halvings, blocks, kind).model
        self.model = nn.Sequential(*[whole[k] for k in range(len(whole) - 3)])
        for n in range(1, enhancers + 1):
            wide = ngf * 2 ** (enhancers - n)
            down = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, wide, 7), *_finish(kind, wide)]
            down += [nn.Conv2d(wide, 2 * wide, 3, stride=2, padding=1), *_finish(kind, 2 * wide)]
            up: list[nn.Module] = [ResnetBlock(2 * wide, kind, True, False, False) for _ in range(local_blocks)]
            up += [nn.ConvTranspose2d(2 * wide, wide, 3, stride=2, padding=1, output_padding=1)]
            up += _finish(kind, wide)
            if n == enhancers:
                up += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, outputs, 7), nn.Tanh()]
            self.add_module(f"model{n}_1", nn.Sequential(*down))
            self.add_module(f"model{n}_2", nn.Sequential(*up))
        self.downsample = nn.AvgPool2d(3, stride=2, padding=[1, 1], count_include_pad=False)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        sizes = [image]
        for _ in range(self.enhancers):
            sizes.append(self.downsample(sizes[-1]))
        before: Tensor = self.model(sizes[-1])
        for n in range(1, self.enhancers + 1):
            seen = self.get_submodule(f"model{n}_1")(sizes[self.enhancers - n])
            before = self.get_submodule(f"model{n}_2")(seen + before)
        return before


def encode_input(labels: Tensor, instances: Tensor | None, label_nc: int) -> Tensor:
    """What the network is given for maps (N, 1, H, W) of whole numbers: one-hot labels, edges of instances."""
    n, _, height, width = labels.shape
    encoded = torch.zeros(n, label_nc, height, width).scatter_(1, labels.long(), 1.0)
    if instances is None:
        return encoded
    return torch.cat((encoded, edges(instances)), dim=1)


def edges(t: Tensor) -> Tensor:
    """get_edges: both pixels of every neighbouring pair that differs."""
    edge = torch.zeros(t.shape, dtype=torch.bool)
    edge[:, :, :, 1:] |= t[:, :, :, 1:] != t[:, :, :, :-1]
    edge[:, :, :, :-1] |= t[:, :, :, 1:] != t[:, :, :, :-1]
    edge[:, :, 1:, :] |= t[:, :, 1:, :] != t[:, :, :-1, :]
    edge[:, :, :-1, :] |= t[:, :, 1:, :] != t[:, :, :-1, :]
    return edge.float()
