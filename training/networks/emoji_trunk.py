"""The network whose features judge emoji; `python -m training emoji-judge` trains it."""

from torch import Tensor, nn

WIDTHS = (32, 64, 96, 128)


class EmojiTrunk(nn.Module):
    """Five convolutions: (N, 3, 32, 32) float32, -1..1 -> features (N, 128), means over the last map."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *WIDTHS), (*WIDTHS, WIDTHS[-1]), strict=True):
            stride = 1 if before == after else 2
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.main = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.main(pictures)
        return features
