"""TencentARC/GFPGAN's GFPGANv1Clean: weights of its decoder made anew for each item, as its class does."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT2 = 2**0.5


def bilinear(x: Tensor, scale: float) -> Tensor:
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


class Res(nn.Module):
    def __init__(self, a: int, b: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.conv1 = nn.Conv2d(a, a, 3, 1, 1)
        self.conv2 = nn.Conv2d(a, b, 3, 1, 1)
        self.skip = nn.Conv2d(a, b, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.conv2(bilinear(F.leaky_relu(self.conv1(x), 0.2), self.scale)), 0.2)
        result: Tensor = h + self.skip(bilinear(x, self.scale))
        return result


class Modulated(nn.Module):
    def __init__(self, a: int, b: int, k: int, style: int, demodulate: bool) -> None:
        super().__init__()
        self.demodulate = demodulate
        self.modulation = nn.Linear(style, a)
        self.weight = nn.Parameter(torch.zeros(1, b, a, k, k))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        n, a, height, width = x.shape
        weight = self.weight * self.modulation(style).reshape(n, 1, a, 1, 1)
        if self.demodulate:
            weight = weight / (weight.pow(2).sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
        b, k = weight.shape[1], weight.shape[-1]
        found = F.conv2d(x.reshape(1, n * a, height, width), weight.reshape(n * b, a, k, k), padding=k // 2, groups=n)
        return found.reshape(n, b, height, width)


class Style(nn.Module):
    def __init__(self, a: int, b: int, style: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.modulated_conv = Modulated(a, b, 3, style, True)
        self.weight = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(1, b, 1, 1))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        x = bilinear(x, 2) if self.up else x
        return F.leaky_relu(self.modulated_conv(x, style) * ROOT2 + self.weight * noise + self.bias, 0.2)


class Rgb(nn.Module):
    def __init__(self, a: int, style: int) -> None:
        super().__init__()
        self.modulated_conv = Modulated(a, 3, 1, style, False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        result: Tensor = self.modulated_conv(x, style) + self.bias
        return result


class Const(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, channels, 4, 4))


class Decoder(nn.Module):
    def __init__(self, widths: list[int], style: int) -> None:
        super().__init__()
        mlp: list[nn.Module] = [nn.Identity()]
        for _ in range(8):
            mlp += [nn.Linear(style, style), nn.LeakyReLU(0.2)]
        self.style_mlp = nn.Sequential(*mlp)
        self.constant_input = Const(widths[0])
        self.style_conv1 = Style(widths[0], widths[0], style, False)
        self.to_rgb1 = Rgb(widths[0], style)
        self.style_convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        self.noises.register_buffer("noise0", torch.zeros(1, 1, 4, 4))
        for i in range(1, len(widths)):
            self.style_convs.append(Style(widths[i - 1], widths[i], style, True))
            self.style_convs.append(Style(widths[i], widths[i], style, False))
            self.to_rgbs.append(Rgb(widths[i], style))
            for j in (2 * i - 1, 2 * i):
                self.noises.register_buffer(f"noise{j}", torch.zeros(1, 1, 4 * 2**i, 4 * 2**i))


class Gfpgan(nn.Module):
    """`unet`: widths from the largest size on; the decoder's are twice those."""

    def __init__(self, unet: list[int], style: int) -> None:
        super().__init__()
        self.style = style
        steps = len(unet) - 1
        back = unet[::-1]
        self.conv_body_first = nn.Conv2d(3, unet[0], 1)
        self.conv_body_down = nn.ModuleList(Res(unet[i], unet[i + 1], 0.5) for i in range(steps))
        self.final_conv = nn.Conv2d(back[0], back[0], 3, 1, 1)
        self.conv_body_up = nn.ModuleList(Res(back[i], back[i + 1], 2) for i in range(steps))
        self.toRGB = nn.ModuleList(nn.Conv2d(back[i + 1], 3, 1) for i in range(steps))
        self.final_linear = nn.Linear(back[0] * 16, (2 * steps + 2) * style)
        self.stylegan_decoder = Decoder([2 * width for width in back], style)
        self.condition_scale, self.condition_shift = nn.ModuleList(), nn.ModuleList()
        for width in back[1:]:
            for conditions in (self.condition_scale, self.condition_shift):
                convs = (nn.Conv2d(width, width, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, width, 3, 1, 1))
                conditions.append(nn.Sequential(*convs))

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.conv_body_first(x), 0.2)
        skips: list[Tensor] = []
        for block in self.conv_body_down:
            h = block(h)
            skips.insert(0, h)
        h = F.leaky_relu(self.final_conv(h), 0.2)
        w = self.final_linear(h.reshape(len(h), -1)).reshape(len(h), -1, self.style)
        net, noise = self.stylegan_decoder, self.stylegan_decoder.noises
        out = net.style_conv1(net.constant_input.weight.repeat(len(h), 1, 1, 1), w[:, 0], noise.get_buffer("noise0"))
        picture = net.to_rgb1(out, w[:, 1])
        for i, block in enumerate(self.conv_body_up):
            h = block(h + skips[i])
            out = net.style_convs[2 * i](out, w[:, 2 * i + 1], noise.get_buffer(f"noise{2 * i + 1}"))
            half = out.shape[1] // 2
            changed = out[:, half:] * self.condition_scale[i](h) + self.condition_shift[i](h)
            out = torch.cat([out[:, :half], changed], 1)
            out = net.style_convs[2 * i + 1](out, w[:, 2 * i + 2], noise.get_buffer(f"noise{2 * i + 2}"))
            picture = net.to_rgbs[i](out, w[:, 2 * i + 3]) + bilinear(picture, 2)
        result: Tensor = picture
        return result
