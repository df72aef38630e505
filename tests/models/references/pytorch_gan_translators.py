"""GeneratorUNet (pix2pix) and GeneratorResNet (cyclegan) as eriklindernoren/PyTorch-GAN defines them."""

import torch
from torch import Tensor, nn


class UNetDown(nn.Module):
    """Conv, norm or none, LeakyReLU, dropout or none."""

    def __init__(self, before: int, after: int, normalize: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(before, after, 4, 2, 1, bias=False)]
        layers += [nn.InstanceNorm2d(after)] if normalize else []
        layers += [nn.LeakyReLU(0.2)]
        layers += [nn.Dropout(dropout)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, maps: Tensor) -> Tensor:
        after: Tensor = self.model(maps)
        return after


class UNetUp(nn.Module):
    """Transposed conv, norm, ReLU, dropout or none; the skipped maps come after."""

    def __init__(self, before: int, after: int, dropout: float = 0.0) -> None:
        super().__init__()
        layers = [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.InstanceNorm2d(after)]
        layers += [nn.ReLU(inplace=True)]
        layers += [nn.Dropout(dropout)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, maps: Tensor, skipped: Tensor) -> Tensor:
        return torch.cat((self.model(maps), skipped), 1)


class GeneratorUNet(nn.Module):
    """The script's eight levels with widths w, 2w, 4w, 8w, 8w, ... (w is 64 there), or fewer."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [width * min(2**k, 8) for k in range(depth)]
        self.depth = depth
        self.down1 = UNetDown(inputs, widths[0], normalize=False)
        for k in range(2, depth):
            self.add_module(f"down{k}", UNetDown(widths[k - 2], widths[k - 1], dropout=0.5 if k > 3 else 0.0))
        self.add_module(f"down{depth}", UNetDown(widths[-2], widths[-1], normalize=False, dropout=0.5))
        below = widths[-1]
        for k in range(1, depth):
            after = widths[-1 - k]
            self.add_module(f"up{k}", UNetUp(below, after, dropout=0.5 if k < depth - 3 else 0.0))
            below = 2 * after
        self.final = nn.Sequential(
            nn.Upsample(scale_factor=2), nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(below, outputs, 4, padding=1), nn.Tanh()
        )

    def forward(self, image: Tensor) -> Tensor:
        down = [image]
        for k in range(1, self.depth + 1):
            down.append(self.get_submodule(f"down{k}")(down[-1]))
        maps = down[-1]
        for k in range(1, self.depth):
            maps = self.get_submodule(f"up{k}")(maps, down[self.depth - k])
        output: Tensor = self.final(maps)
        return output


class ResidualBlock(nn.Module):
    """Its block, added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)]
        other = [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)]
        self.block = nn.Sequential(*half, nn.ReLU(inplace=True), *other)

    def forward(self, maps: Tensor) -> Tensor:
        changed: Tensor = maps + self.block(maps)
        return changed


class GeneratorResNet(nn.Module):
    """`padding` is the count of channels there."""

    def __init__(self, channels: int, width: int, blocks: int, padding: int) -> None:
        super().__init__()

        def finish(count: int) -> list[nn.Module]:
            return [nn.InstanceNorm2d(count), nn.ReLU(inplace=True)]

        layers = [nn.ReflectionPad2d(padding), nn.Conv2d(channels, width, 7), *finish(width)]
        for wide in (width, 2 * width):
            layers += [nn.Conv2d(wide, 2 * wide, 3, stride=2, padding=1), *finish(2 * wide)]
        layers += [ResidualBlock(4 * width) for _ in range(blocks)]
        for wide in (4 * width, 2 * width):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(wide, wide // 2, 3, stride=1, padding=1)]
            layers += finish(wide // 2)
        layers += [nn.ReflectionPad2d(padding), nn.Conv2d(width, channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.model(image)
        return output
