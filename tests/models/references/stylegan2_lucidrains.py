"""The `GAN` module of lucidrains/stylegan2-pytorch, as far as its state dict and its sampling go, written anew: weights
scaled per image in grouped convolutions, einsum attention, a uniform noise image whose sides are swapped."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EqualLinear(nn.Module):
    def __init__(self, inner: int, outer: int, lr_mul: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outer, inner))
        self.bias = nn.Parameter(torch.zeros(outer))
        self.lr_mul = lr_mul

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.lr_mul, self.bias * self.lr_mul)


class StyleVectorizer(nn.Module):
    def __init__(self, emb: int, depth: int, lr_mul: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [EqualLinear(emb, emb, lr_mul), nn.LeakyReLU(0.2, inplace=True)]
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(F.normalize(x, dim=1))
        return out


class Blur(nn.Module):
    f: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("f", torch.tensor([1.0, 2.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.f[None, :] * self.f[:, None]
        kernel = (kernel / kernel.abs().sum()).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=x.shape[1])


class ChanNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))
        self.b = nn.Parameter(torch.zeros(1, dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        var = torch.var(x, dim=1, unbiased=False, keepdim=True)
        return (x - torch.mean(x, dim=1, keepdim=True)) / (var + 1e-5).sqrt() * self.g + self.b


class Residual(nn.Module):
    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fn(x) + x
        return out


class PreNorm(nn.Module):
    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.fn, self.norm = fn, ChanNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fn(self.norm(x))
        return out


class DepthWiseConv2d(nn.Module):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False), nn.Conv2d(inner, outer, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class LinearAttention(nn.Module):
    def __init__(self, dim: int, dim_head: int = 64, heads: int = 8) -> None:
        super().__init__()
        self.scale, self.heads = dim_head**-0.5, heads
        self.nonlin = nn.GELU()
        self.to_q = nn.Conv2d(dim, dim_head * heads, 1, bias=False)
        self.to_kv = DepthWiseConv2d(dim, dim_head * heads * 2)
        self.to_out = nn.Conv2d(dim_head * heads, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        parts = (self.to_q(x), *self.to_kv(x).chunk(2, dim=1))
        q, k, v = (part.reshape(n * self.heads, -1, height * width).transpose(1, 2) for part in parts)
        q, k = q.softmax(dim=-1) * self.scale, k.softmax(dim=-2)
        context = torch.einsum("bnd,bne->bde", k, v)
        attended = torch.einsum("bnd,bde->bne", q, context).transpose(1, 2).reshape(n, -1, height, width)
        out: Tensor = self.to_out(self.nonlin(attended))
        return out


def attn_and_ff(dim: int) -> nn.Sequential:
    feed = nn.Sequential(nn.Conv2d(dim, dim * 2, 1), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(dim * 2, dim, 1))
    return nn.Sequential(Residual(PreNorm(dim, LinearAttention(dim))), Residual(PreNorm(dim, feed)))


class Conv2DMod(nn.Module):
    def __init__(self, inner: int, outer: int, size: int, demod: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outer, inner, size, size))
        self.demod = demod

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        n, inner, height, width = x.shape
        outer, _, size, _ = self.weight.shape
        weights = self.weight[None] * (y[:, None, :, None, None] + 1)
        if self.demod:
            weights = weights * torch.rsqrt((weights**2).sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
        flat = x.reshape(1, n * inner, height, width)
        out = F.conv2d(flat, weights.reshape(n * outer, inner, size, size), padding=(size - 1) // 2, groups=n)
        return out.reshape(n, outer, height, width)


class RGBBlock(nn.Module):
    def __init__(self, latent_dim: int, inner: int, upsample: bool, rgba: bool) -> None:
        super().__init__()
        self.to_style = nn.Linear(latent_dim, inner)
        self.conv = Conv2DMod(inner, 4 if rgba else 3, 1, demod=False)
        doubled = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.upsample = nn.Sequential(doubled, Blur()) if upsample else None

    def forward(self, x: Tensor, prev_rgb: Tensor | None, istyle: Tensor) -> Tensor:
        out: Tensor = self.conv(x, self.to_style(istyle))
        if prev_rgb is not None:
            out = out + prev_rgb
        return out if self.upsample is None else self.upsample(out)


class GeneratorBlock(nn.Module):
    def __init__(self, latent_dim: int, inner: int, outer: int, upsample: bool, upsample_rgb: bool, rgba: bool) -> None:
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False) if upsample else None
        self.to_style1, self.to_noise1 = nn.Linear(latent_dim, inner), nn.Linear(1, outer)
        self.conv1 = Conv2DMod(inner, outer, 3)
        self.to_style2, self.to_noise2 = nn.Linear(latent_dim, outer), nn.Linear(1, outer)
        self.conv2 = Conv2DMod(outer, outer, 3)
        self.activation = nn.LeakyReLU(0.2, inplace=True)
        self.to_rgb = RGBBlock(latent_dim, outer, upsample_rgb, rgba)

    def forward(self, x: Tensor, prev_rgb: Tensor | None, istyle: Tensor, inoise: Tensor) -> tuple[Tensor, Tensor]:
        if self.upsample is not None:
            x = self.upsample(x)
        inoise = inoise[:, : x.shape[2], : x.shape[3], :]
        noise1 = self.to_noise1(inoise).permute((0, 3, 2, 1))
        noise2 = self.to_noise2(inoise).permute((0, 3, 2, 1))
        x = self.activation(self.conv1(x, self.to_style1(istyle)) + noise1)
        x = self.activation(self.conv2(x, self.to_style2(istyle)) + noise2)
        return x, self.to_rgb(x, prev_rgb, istyle)


class Generator(nn.Module):
    def __init__(
        self,
        image_size: int,
        latent_dim: int,
        network_capacity: int,
        transparent: bool,
        attn_layers: list[int],
        no_const: bool,
        fmap_max: int,
    ) -> None:
        super().__init__()
        self.image_size, self.num_layers = image_size, int(math.log2(image_size) - 1)
        filters = [min(fmap_max, network_capacity * 2 ** (i + 1)) for i in range(self.num_layers)][::-1]
        filters = [filters[0], *filters]
        self.no_const = no_const
        if no_const:
            self.to_initial_block = nn.ConvTranspose2d(latent_dim, filters[0], 4, 1, 0, bias=False)
        else:
            self.initial_block = nn.Parameter(torch.randn(1, filters[0], 4, 4))
        self.initial_conv = nn.Conv2d(filters[0], filters[0], 3, padding=1)
        self.blocks, self.attns = nn.ModuleList(), nn.ModuleList()
        for ind in range(self.num_layers):
            inner, outer = filters[ind], filters[ind + 1]
            attended = self.num_layers - ind in attn_layers
            self.attns.append(attn_and_ff(inner) if attended else None)  # type: ignore[arg-type]
            last = ind == self.num_layers - 1
            self.blocks.append(GeneratorBlock(latent_dim, inner, outer, ind != 0, not last, transparent))

    def forward(self, styles: Tensor, input_noise: Tensor) -> Tensor:
        if self.no_const:
            x = self.to_initial_block(styles.mean(dim=1)[:, :, None, None])
        else:
            x = self.initial_block.expand(styles.shape[0], -1, -1, -1)
        rgb: Tensor | None = None
        x = self.initial_conv(x)
        for style, block, attn in zip(styles.transpose(0, 1), self.blocks, self.attns, strict=True):
            if attn is not None:
                x = attn(x)
            x, rgb = block(x, rgb, style, input_noise)
        assert rgb is not None
        return rgb


class StyleGAN2(nn.Module):
    """What `GAN` in a checkpoint is, but for its discriminator, of which one layer stands for all."""

    def __init__(
        self,
        image_size: int,
        latent_dim: int,
        style_depth: int,
        network_capacity: int,
        *,
        transparent: bool = False,
        attn_layers: tuple[int, ...] = (),
        no_const: bool = False,
        lr_mlp: float = 0.1,
        fmap_max: int = 512,
    ) -> None:
        super().__init__()
        sizes = (image_size, latent_dim, network_capacity, transparent, list(attn_layers), no_const, fmap_max)
        self.S = StyleVectorizer(latent_dim, style_depth, lr_mlp)
        self.G = Generator(*sizes)
        self.D = nn.Sequential(nn.Conv2d(3, 4, 1))
        self.SE = StyleVectorizer(latent_dim, style_depth, lr_mlp)
        self.GE = Generator(*sizes)
        self.D_aug = nn.ModuleDict({"D": self.D})
