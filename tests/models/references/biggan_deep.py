"""huggingface/pytorch-pretrained-BigGAN's network, written anew: one truncation for the whole batch, a Python float."""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm


class StoredNorm(nn.Module):
    running_means: Tensor
    running_vars: Tensor

    def __init__(self, channels: int, condition: int, stats: int, eps: float) -> None:
        super().__init__()
        self.register_buffer("running_means", torch.zeros(stats, channels))
        self.register_buffer("running_vars", torch.ones(stats, channels))
        self.step, self.eps = 1.0 / (stats - 1), eps
        self.conditional = condition > 0
        if condition:
            self.scale = spectral_norm(nn.Linear(condition, channels, bias=False), eps=eps)
            self.offset = spectral_norm(nn.Linear(condition, channels, bias=False), eps=eps)
        else:
            self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, truncation: float, condition: Tensor) -> Tensor:
        coef, start = math.modf(truncation / self.step)
        index = int(start)
        mean, var = self.running_means[index], self.running_vars[index]
        if coef != 0.0:
            mean = mean * coef + self.running_means[index + 1] * (1 - coef)
            var = var * coef + self.running_vars[index + 1] * (1 - coef)
        if not self.conditional:
            return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        weight = 1 + self.scale(condition)[:, :, None, None]
        bias = self.offset(condition)[:, :, None, None]
        out: Tensor = (x - mean[None, :, None, None]) / torch.sqrt(var[None, :, None, None] + self.eps) * weight + bias
        return out


class Block(nn.Module):
    def __init__(self, before: int, after: int, condition: int, up: bool, stats: int, eps: float) -> None:
        super().__init__()
        middle = before // 4
        self.up, self.after = up, after
        self.bn_0 = StoredNorm(before, condition, stats, eps)
        self.conv_0 = spectral_norm(nn.Conv2d(before, middle, 1), eps=eps)
        self.bn_1 = StoredNorm(middle, condition, stats, eps)
        self.conv_1 = spectral_norm(nn.Conv2d(middle, middle, 3, padding=1), eps=eps)
        self.bn_2 = StoredNorm(middle, condition, stats, eps)
        self.conv_2 = spectral_norm(nn.Conv2d(middle, middle, 3, padding=1), eps=eps)
        self.bn_3 = StoredNorm(middle, condition, stats, eps)
        self.conv_3 = spectral_norm(nn.Conv2d(middle, after, 1), eps=eps)

    def forward(self, x: Tensor, condition: Tensor, truncation: float) -> Tensor:
        h = self.conv_0(F.relu(self.bn_0(x, truncation, condition)))
        h = F.relu(self.bn_1(h, truncation, condition))
        if self.up:
            h = F.interpolate(h, scale_factor=2, mode="nearest")
        h = F.relu(self.bn_2(self.conv_1(h), truncation, condition))
        h = self.conv_3(F.relu(self.bn_3(self.conv_2(h), truncation, condition)))
        if x.shape[1] != self.after:
            x = x[:, : x.shape[1] // 2]
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        out: Tensor = h + x
        return out


class Attention(nn.Module):
    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.snconv1x1_theta = spectral_norm(nn.Conv2d(channels, channels // 8, 1, bias=False), eps=eps)
        self.snconv1x1_phi = spectral_norm(nn.Conv2d(channels, channels // 8, 1, bias=False), eps=eps)
        self.snconv1x1_g = spectral_norm(nn.Conv2d(channels, channels // 2, 1, bias=False), eps=eps)
        self.snconv1x1_o_conv = spectral_norm(nn.Conv2d(channels // 2, channels, 1, bias=False), eps=eps)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        _, ch, h, w = x.shape
        theta = self.snconv1x1_theta(x).view(-1, ch // 8, h * w)
        phi = F.max_pool2d(self.snconv1x1_phi(x), 2).view(-1, ch // 8, h * w // 4)
        attention = torch.softmax(torch.bmm(theta.permute(0, 2, 1), phi), dim=-1)
        g = F.max_pool2d(self.snconv1x1_g(x), 2).view(-1, ch // 2, h * w // 4)
        mixed = torch.bmm(g, attention.permute(0, 2, 1)).view(-1, ch // 2, h, w)
        out: Tensor = x + self.gamma * self.snconv1x1_o_conv(mixed)
        return out


class Inner(nn.Module):
    def __init__(
        self, z: int, width: int, layers: Sequence[tuple[bool, int, int]], attention: int, stats: int, eps: float
    ) -> None:
        super().__init__()
        self.first = layers[0][1] * width
        self.gen_z = spectral_norm(nn.Linear(2 * z, 16 * self.first), eps=eps)
        listed: list[nn.Module] = []
        for index, (up, before, after) in enumerate(layers):
            if index == attention:
                listed.append(Attention(before * width, eps))
            listed.append(Block(before * width, after * width, 2 * z, up, stats, eps))
        self.layers = nn.ModuleList(listed)
        self.bn = StoredNorm(width, 0, stats, eps)
        self.conv_to_rgb = spectral_norm(nn.Conv2d(width, width, 3, padding=1), eps=eps)

    def forward(self, condition: Tensor, truncation: float) -> Tensor:
        z = self.gen_z(condition).view(-1, 4, 4, self.first).permute(0, 3, 1, 2).contiguous()
        for layer in self.layers:
            z = layer(z, condition, truncation) if isinstance(layer, Block) else layer(z)
        z = self.conv_to_rgb(F.relu(self.bn(z, truncation, condition)))
        return torch.tanh(z[:, :3])


class BigGan(nn.Module):
    def __init__(
        self,
        z: int,
        classes: int,
        width: int,
        layers: Sequence[tuple[bool, int, int]],
        attention: int,
        stats: int = 51,
        eps: float = 1e-4,
    ) -> None:
        super().__init__()
        self.embeddings = nn.Linear(classes, z, bias=False)
        self.generator = Inner(z, width, layers, attention, stats, eps)

    def forward(self, z: Tensor, class_label: Tensor, truncation: float) -> Tensor:
        """`class_label` (N, classes) float32, one-hot or soft; `z` truncated already."""
        assert 0 < truncation <= 1
        out: Tensor = self.generator(torch.cat((z, self.embeddings(class_label)), dim=1), truncation)
        return out


def truncated(latent: Tensor) -> Tensor:
    """Standard normal numbers as the normal cut off at -2 and 2 has them at the same rank, in float64."""
    normal = NormalDist()
    low, high = normal.cdf(-2.0), normal.cdf(2.0)
    values = [normal.inv_cdf(low + (high - low) * normal.cdf(float(value))) for value in latent.flatten()]
    return torch.tensor(values, dtype=torch.float32).reshape(latent.shape)


def generate(network: nn.Module, arrays: Mapping[str, Tensor], ready: bool = False) -> Tensor:
    """One call for each row, with the decimal number that its psi was; `ready`: latents are truncated already."""
    assert isinstance(network, BigGan)
    images = []
    for row, psi in enumerate(arrays["truncation_psi"].tolist()):
        latent = arrays["latent"][row : row + 1]
        z = latent if ready else truncated(latent) * psi
        label = F.one_hot(arrays["label"][row : row + 1], network.embeddings.in_features).float()
        images.append(network(z, label, round(psi, 6)))
    return torch.cat(images)


def call(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """Latents standard normal."""
    return generate(network, arrays)


def call_truncated(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """Latents as the repository's callers pass them."""
    return generate(network, arrays, ready=True)
