"""clovaai/stargan-v2's networks, as its `core/model.py` lays out their weights; masks are an argument, not found."""

from collections.abc import Mapping
from math import log2

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT2 = 2**0.5


class Down(nn.Module):
    def __init__(self, a: int, b: int, normalize: bool, down: bool) -> None:
        super().__init__()
        self.normalize, self.down, self.learned = normalize, down, a != b
        self.conv1 = nn.Conv2d(a, a, 3, 1, 1)
        self.conv2 = nn.Conv2d(a, b, 3, 1, 1)
        if normalize:
            self.norm1 = nn.InstanceNorm2d(a, affine=True)
            self.norm2 = nn.InstanceNorm2d(a, affine=True)
        if self.learned:
            self.conv1x1 = nn.Conv2d(a, b, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x) if self.normalize else x
        h = self.conv1(F.leaky_relu(h, 0.2))
        if self.down:
            h = F.avg_pool2d(h, 2)
        h = self.norm2(h) if self.normalize else h
        h = self.conv2(F.leaky_relu(h, 0.2))
        r = self.conv1x1(x) if self.learned else x
        if self.down:
            r = F.avg_pool2d(r, 2)
        result: Tensor = (h + r) / ROOT2
        return result


class AdaIn(nn.Module):
    def __init__(self, style: int, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(style, channels * 2)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        h = self.fc(s)
        half = h.shape[1] // 2
        gamma, beta = h[:, :half, None, None], h[:, half:, None, None]
        mean = x.mean((2, 3), keepdim=True)
        variance = x.var((2, 3), unbiased=False, keepdim=True)
        result: Tensor = (1 + gamma) * (x - mean) / (variance + 1e-5).sqrt() + beta
        return result


class Up(nn.Module):
    def __init__(self, a: int, b: int, style: int, w_hpf: float, up: bool) -> None:
        super().__init__()
        self.w_hpf, self.up, self.learned = w_hpf, up, a != b
        self.conv1 = nn.Conv2d(a, b, 3, 1, 1)
        self.conv2 = nn.Conv2d(b, b, 3, 1, 1)
        self.norm1 = AdaIn(style, a)
        self.norm2 = AdaIn(style, b)
        if self.learned:
            self.conv1x1 = nn.Conv2d(a, b, 1, bias=False)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        h = F.leaky_relu(self.norm1(x, s), 0.2)
        if self.up:
            h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
        h = self.conv1(h)
        h = self.conv2(F.leaky_relu(self.norm2(h, s), 0.2))
        r = x.repeat_interleave(2, 2).repeat_interleave(2, 3) if self.up else x
        result: Tensor = h if self.w_hpf else (h + (self.conv1x1(r) if self.learned else r)) / ROOT2
        return result


class Filter(nn.Module):
    def __init__(self, w_hpf: float) -> None:
        super().__init__()
        taps = torch.full((3, 3), -1.0)
        taps[1, 1] = 8.0
        self.register_buffer("filter", taps / w_hpf)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.get_buffer("filter")[None, None].repeat(x.shape[1], 1, 1, 1)
        return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


class Generator(nn.Module):
    def __init__(self, size: int, style: int, widest: int, w_hpf: float, narrow: int = 1) -> None:
        super().__init__()
        width = 2**14 // size // narrow
        self.from_rgb = nn.Conv2d(3, width, 3, 1, 1)
        self.to_rgb = nn.Sequential(
            nn.InstanceNorm2d(width, affine=True), nn.LeakyReLU(0.2), nn.Conv2d(width, 3, 1, 1, 0)
        )
        encode: list[nn.Module] = []
        decode: list[nn.Module] = []
        for _ in range(int(log2(size)) - 4 + (1 if w_hpf else 0)):
            after = min(2 * width, widest)
            encode.append(Down(width, after, normalize=True, down=True))
            decode.insert(0, Up(after, width, style, w_hpf, up=True))
            width = after
        for _ in range(2):
            encode.append(Down(width, width, normalize=True, down=False))
            decode.insert(0, Up(width, width, style, w_hpf, up=False))
        self.encode, self.decode = nn.ModuleList(encode), nn.ModuleList(decode)
        if w_hpf:
            self.hpf = Filter(w_hpf)

    def forward(self, x: Tensor, s: Tensor, masks: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x, kept = self.from_rgb(x), {}
        for block in self.encode:
            if masks is not None and x.shape[2] in (32, 64, 128):
                kept[x.shape[2]] = x
            x = block(x)
        for block in self.decode:
            x = block(x, s)
            side = x.shape[2]
            if masks is not None and side in (32, 64, 128):
                mask = masks[0] if side == 32 else masks[1]
                x = x + self.hpf(F.interpolate(mask, size=side, mode="bilinear") * kept[side])
        result: Tensor = self.to_rgb(x)
        return result


class MappingNet(nn.Module):
    def __init__(self, latent: int, style: int, domains: int, hidden: int = 512) -> None:
        super().__init__()
        shared: list[nn.Module] = [nn.Linear(latent, hidden), nn.ReLU()]
        for _ in range(3):
            shared += [nn.Linear(hidden, hidden), nn.ReLU()]
        self.shared = nn.Sequential(*shared)
        self.unshared = nn.ModuleList()
        for _ in range(domains):
            own: list[nn.Module] = []
            for _ in range(3):
                own += [nn.Linear(hidden, hidden), nn.ReLU()]
            self.unshared.append(nn.Sequential(*own, nn.Linear(hidden, style)))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.shared(z)
        return torch.stack([self.unshared[int(domain)](h[i]) for i, domain in enumerate(y)])


class Encoder(nn.Module):
    def __init__(self, size: int, style: int, domains: int, widest: int, narrow: int = 1) -> None:
        super().__init__()
        width = 2**14 // size // narrow
        blocks: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1)]
        for _ in range(int(log2(size)) - 2):
            after = min(2 * width, widest)
            blocks.append(Down(width, after, normalize=False, down=True))
            width = after
        blocks += [nn.LeakyReLU(0.2), nn.Conv2d(width, width, 4, 1, 0), nn.LeakyReLU(0.2)]
        self.shared = nn.Sequential(*blocks)
        self.unshared = nn.ModuleList(nn.Linear(width, style) for _ in range(domains))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.shared(x)
        h = h.reshape(len(h), -1)
        return torch.stack([self.unshared[int(domain)](h[i]) for i, domain in enumerate(y)])


class Nets(nn.Module):
    """What a `*_nets_ema.ckpt` holds, as one module."""

    def __init__(self, size: int, domains: int, w_hpf: float, widest: int = 16, narrow: int = 64) -> None:
        super().__init__()
        self.generator = Generator(size, 8, widest, w_hpf, narrow)
        self.mapping_network = MappingNet(6, 8, domains, 20)
        self.style_encoder = Encoder(size, 8, domains, widest, narrow)

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        styles = []
        for i, y in enumerate(arrays["label"]):
            given = bool(arrays["reference_given"][i]) if "reference_given" in arrays else "reference" in arrays
            network, source = (self.style_encoder, "reference") if given else (self.mapping_network, "latent")
            styles.append(network(arrays[source][i : i + 1], y[None])[0])
        image: Tensor = self.generator(arrays["image"], torch.stack(styles))
        return image


def landmark_network() -> dict[str, Tensor]:
    """Some tensors of the `fan` entry, which is not used."""
    shapes = {"conv1.conv.weight": (4, 6, 7, 7), "bn1.weight": (4,), "l0.weight": (9, 4, 1, 1)}
    return {name: torch.ones(*size) for name, size in shapes.items()}
