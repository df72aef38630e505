"""SRVGGNetCompact as BasicSR and Real-ESRGAN define it: a list of layers, pixel shuffle, the nearest-enlarged input."""

from torch import Tensor, nn
from torch.nn import functional as F


class SrvggCompact(nn.Module):
    def __init__(self, channels: int, num_feat: int, num_conv: int, upscale: int, act_type: str) -> None:
        super().__init__()
        self.upscale = upscale
        self.body = nn.ModuleList([nn.Conv2d(channels, num_feat, 3, 1, 1), self._activation(act_type, num_feat)])
        for _ in range(num_conv):
            self.body.append(nn.Conv2d(num_feat, num_feat, 3, 1, 1))
            self.body.append(self._activation(act_type, num_feat))
        self.body.append(nn.Conv2d(num_feat, channels * upscale * upscale, 3, 1, 1))
        self.upsampler = nn.PixelShuffle(upscale)

    @staticmethod
    def _activation(act_type: str, num_feat: int) -> nn.Module:
        if act_type == "relu":
            return nn.ReLU(inplace=True)
        if act_type == "prelu":
            return nn.PReLU(num_parameters=num_feat)
        return nn.LeakyReLU(negative_slope=0.1, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self.body:
            out = layer(out)
        grown: Tensor = self.upsampler(out)
        return grown + F.interpolate(x, scale_factor=self.upscale, mode="nearest")
