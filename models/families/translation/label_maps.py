"""Label maps as images: what pix2pixHD (Wang et al. 2017, arXiv:1711.11585) sees instead of them.

The encoding is that of NVIDIA/pix2pixHD `encode_input`: one map a label, and one that is 1 along the borders between
instances. There both come from two files; here from one image's channels.
"""

import torch
import torch.nn.functional as F
from torch import nn


def instance_edges(ids: torch.Tensor) -> torch.Tensor:
    """1 where a pixel's instance differs from that above, below, left or right, else 0: (N, 1, H, W) float32.

    `ids` is (N, K, H, W) float32, whole levels 0..255; two pixels are of one instance where all K are equal. Bytes are
    not joined into one number first, as float16 would not hold it.
    """
    around = F.pad(ids, (1, 1, 1, 1), mode="replicate")
    height_cut, width_cut = around[:, :, 1:-1, :], around[:, :, :, 1:-1]
    vertical = (width_cut[:, :, :-2] != ids) | (width_cut[:, :, 2:] != ids)
    horizontal = (height_cut[..., :-2] != ids) | (height_cut[..., 2:] != ids)
    return (vertical | horizontal).to(torch.float32).amax(1, keepdim=True)


UNKNOWN = 255  # in label maps of data sets


class LabelMap(nn.Module):
    """Levels (N, 1 or 3, H, W) -> (N, labels [+ 1], H, W): one-hot labels, and the edges of instances.

    R is the label, 256*G + B the instance; a label beyond the last is none. `is_unknown`: 255 is the last label.
    """

    labels: torch.Tensor

    def __init__(self, labels: int, has_instances: bool, is_unknown: bool = False) -> None:
        super().__init__()
        self.has_instances, self.last = has_instances, labels - 1 if is_unknown else None
        self.register_buffer("labels", torch.arange(labels, dtype=torch.float32).reshape(1, -1, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """0 or 1, float32, from `image` (N, 1 or 3, H, W) float32, whole levels 0..255."""
        labels = image[:, :1]
        if self.last is not None:
            labels = torch.where(labels == UNKNOWN, float(self.last), labels)
        one_hot = (labels == self.labels).to(torch.float32)
        if not self.has_instances:
            return one_hot
        return torch.cat([one_hot, instance_edges(image[:, 1:])], dim=1)


class ImageWithInstances(nn.Module):
    """Levels (N, 4, H, W) -> (N, 4, H, W): RGB in [-1, 1], and the edges of the instances in the fourth."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """float32 from `image` (N, 4, H, W) float32, whole levels 0..255."""
        return torch.cat([image[:, :3] / 127.5 - 1.0, instance_edges(image[:, 3:4])], dim=1)
