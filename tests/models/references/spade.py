"""NVlabs/SPADE's generator; spectral norm by torch's own wrapper, as its files have it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm


class Norm(nn.Module):
    def __init__(self, channels: int, labels: int, kind: str, hidden: int = 128, ks: int = 3) -> None:
        super().__init__()
        kinds = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}
        self.param_free_norm = kinds[kind](channels, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(labels, hidden, ks, padding=ks // 2), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, ks, padding=ks // 2)
        self.mlp_beta = nn.Conv2d(hidden, channels, ks, padding=ks // 2)

    def forward(self, x: Tensor, seg: Tensor) -> Tensor:
        a = self.mlp_shared(F.interpolate(seg, size=x.shape[2:], mode="nearest"))
        result: Tensor = self.param_free_norm(x) * (1 + self.mlp_gamma(a)) + self.mlp_beta(a)
        return result


class Block(nn.Module):
    def __init__(self, fin: int, fout: int, labels: int, kind: str, hidden: int) -> None:
        super().__init__()
        mid = min(fin, fout)
        self.learned = fin != fout
        self.conv_0 = spectral_norm(nn.Conv2d(fin, mid, 3, padding=1))
        self.conv_1 = spectral_norm(nn.Conv2d(mid, fout, 3, padding=1))
        self.norm_0 = Norm(fin, labels, kind, hidden)
        self.norm_1 = Norm(mid, labels, kind, hidden)
        if self.learned:
            self.conv_s = spectral_norm(nn.Conv2d(fin, fout, 1, bias=False))
            self.norm_s = Norm(fin, labels, kind, hidden)

    def forward(self, x: Tensor, seg: Tensor) -> Tensor:
        s = self.conv_s(self.norm_s(x, seg)) if self.learned else x
        h = self.conv_0(F.leaky_relu(self.norm_0(x, seg), 0.2))
        result: Tensor = s + self.conv_1(F.leaky_relu(self.norm_1(h, seg), 0.2))
        return result


class Spade(nn.Module):
    """`mode`: num_upsampling_layers. `edges`: the last of `labels` channels is that of edges."""

    def __init__(
        self, ngf: int, labels: int, mode: str, kind: str = "batch", z: int = 0, crop: int = 256, aspect: float = 2.0,
        hidden: int = 128,
    ) -> None:  # fmt: skip
        super().__init__()
        self.mode, self.z = mode, z
        halvings = {"normal": 5, "more": 6, "most": 7}[mode]
        self.sw = crop // 2**halvings
        self.sh = round(self.sw / aspect)
        self.ngf = ngf
        self.fc = nn.Linear(z, 16 * ngf * self.sw * self.sh) if z else nn.Conv2d(labels, 16 * ngf, 3, padding=1)
        widths = {"head_0": (16, 16), "G_middle_0": (16, 16), "G_middle_1": (16, 16)}
        widths |= {f"up_{i}": (16 >> i, 8 >> i) for i in range(4)}
        for name, (a, b) in widths.items():
            self.add_module(name, Block(a * ngf, b * ngf, labels, kind, hidden))
        if mode == "most":
            self.up_4 = Block(ngf, ngf // 2, labels, kind, hidden)
        self.conv_img = nn.Conv2d(ngf // 2 if mode == "most" else ngf, 3, 3, padding=1)

    def forward(self, seg: Tensor, z: Tensor | None = None) -> Tensor:
        if z is not None:
            x = self.fc(z).reshape(-1, 16 * self.ngf, self.sh, self.sw)
        else:
            halvings = {"normal": 5, "more": 6, "most": 7}[self.mode]
            size = (seg.shape[2] >> halvings, seg.shape[3] >> halvings)
            x = self.fc(F.interpolate(seg, size=size, mode="nearest"))

        def run(name: str, x: Tensor, up: bool) -> Tensor:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3) if up else x
            result: Tensor = self.get_submodule(name)(x, seg)
            return result

        x = run("head_0", x, False)
        x = run("G_middle_0", x, True)
        x = run("G_middle_1", x, self.mode != "normal")
        for i in range(4):
            x = run(f"up_{i}", x, True)
        if self.mode == "most":
            x = run("up_4", x, True)
        return torch.tanh(self.conv_img(F.leaky_relu(x, 0.2)))
