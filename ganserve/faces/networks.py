"""The three small networks of MTCNN, by numpy: a few milliseconds of arithmetic that need no engine.

Zhang, Zhang, Li, Qiao, "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks", 2016,
arXiv:1604.02878. The weights are those of facenet-pytorch's wheel, whose files hold the networks of
davidsandberg/facenet: kernels lie there as (across, down, in, out).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
STRIP_VALUES = 1 << 18  # of shifted pixels at a time: 1 MiB, which caches hold
# Of each file: where its numbers begin, and its tensors in their order there. Each follows a count of 8 bytes.
FILES: Mapping[str, tuple[int, Sequence[tuple[str, tuple[int, ...]]]]] = {
    "pnet": (
        1938,
        (
            ("conv2.weight", (3, 3, 10, 16)), ("conv4_1.weight", (1, 1, 32, 2)), ("conv4_2.bias", (4,)),
            ("conv4_2.weight", (1, 1, 32, 4)), ("conv3.bias", (32,)), ("prelu3.weight", (32,)),
            ("conv4_1.bias", (2,)), ("conv3.weight", (3, 3, 16, 32)), ("prelu1.weight", (10,)), ("conv1.bias", (10,)),
            ("conv2.bias", (16,)), ("conv1.weight", (3, 3, 3, 10)), ("prelu2.weight", (16,)),
        ),
    ),
    "rnet": (
        2307,
        (
            ("conv1.bias", (28,)), ("dense5_2.weight", (128, 4)), ("conv2.bias", (48,)),
            ("conv1.weight", (3, 3, 3, 28)), ("conv3.bias", (64,)), ("prelu2.weight", (48,)),
            ("conv3.weight", (2, 2, 48, 64)), ("dense5_1.weight", (128, 2)), ("dense4.weight", (576, 128)),
            ("dense5_2.bias", (4,)), ("prelu3.weight", (64,)), ("dense4.bias", (128,)),
            ("conv2.weight", (3, 3, 28, 48)), ("prelu4.weight", (128,)), ("prelu1.weight", (28,)),
            ("dense5_1.bias", (2,)),
        ),
    ),
    "onet": (
        2941,
        (
            ("dense6_2.bias", (4,)), ("prelu5.weight", (256,)), ("dense6_2.weight", (256, 4)), ("dense6_1.bias", (2,)),
            ("conv2.bias", (64,)), ("dense6_3.weight", (256, 10)), ("dense6_3.bias", (10,)),
            ("dense6_1.weight", (256, 2)), ("conv3.bias", (64,)), ("conv4.weight", (2, 2, 64, 128)),
            ("prelu2.weight", (64,)), ("conv3.weight", (3, 3, 64, 64)), ("conv4.bias", (128,)),
            ("prelu4.weight", (128,)), ("prelu3.weight", (64,)), ("dense5.bias", (256,)),
            ("conv1.weight", (3, 3, 3, 32)), ("conv1.bias", (32,)), ("conv2.weight", (3, 3, 32, 64)),
            ("prelu1.weight", (32,)), ("dense5.weight", (1152, 256)),
        ),
    ),
}  # fmt: skip


def read_weights(path: Path) -> dict[str, Floats]:
    """The tensors of one of the three files, whose bytes have been verified: nothing in it is unpickled.

    Kernels as (down, across, in, out).

    Raises:
        ValueError: another file.
    """
    place, tensors = FILES[path.stem]
    data = path.read_bytes()
    found: dict[str, Floats] = {}
    for name, shape in tensors:
        count = math.prod(shape)
        if data[place : place + 8] != count.to_bytes(8, "little"):
            raise ValueError(f"{path}: no {name} of {count} numbers at byte {place}")
        values = np.frombuffer(data, "<f4", count, place + 8).reshape(shape)
        found[name] = np.ascontiguousarray(values.swapaxes(0, 1) if len(shape) == 4 else values)
        place += 8 + 4 * count
    return found


@dataclass(frozen=True)
class Network:
    """A network's weights, and its layers. Images are (C, N, H, W): planes, so that a shifted image is a slice."""

    weights: Mapping[str, Floats]

    def conv(self, images: Floats, name: str, slope: str = "") -> Floats:
        """Without padding; with `slope` a leaky ReLU of a slope for each channel follows."""
        kernel = self.weights[f"{name}.weight"]
        size, channels = kernel.shape[0], kernel.shape[2]
        taps = kernel.reshape(-1, kernel.shape[3]).T
        _, n, height, width = images.shape
        flat = images.reshape(channels, -1)
        # Each tap's pixels are those of the first, shifted. What wraps around at an edge is cut off.
        shifts = [down * width + across for down in range(size) for across in range(size)]
        made = np.empty((len(taps), flat.shape[1]), np.float32)
        made[:, flat.shape[1] - shifts[-1] :] = 0
        strip = max(1, STRIP_VALUES // taps.shape[1])
        for start in range(0, flat.shape[1] - shifts[-1], strip):
            end = min(start + strip, flat.shape[1] - shifts[-1])
            pixels = np.concatenate([flat[:, start + shift : end + shift] for shift in shifts])
            made[:, start:end] = self._bent((taps @ pixels).T, name, slope).T
        return made.reshape(-1, n, height, width)[:, :, : height - size + 1, : width - size + 1]

    def dense(self, values: Floats, name: str, slope: str = "") -> Floats:
        """(N, K) -> (N, L)."""
        return self._bent(values @ self.weights[f"{name}.weight"], name, slope)

    def _bent(self, made: Floats, name: str, slope: str) -> Floats:
        """(N, L) with bias and activation, in place."""
        made += self.weights[f"{name}.bias"]
        if slope:
            below = np.minimum(made, 0)
            np.maximum(made, 0, out=made)
            below *= self.weights[f"{slope}.weight"]
            made += below
        return made


def pooled(images: Floats, size: int) -> Floats:
    """The largest of each `size` x `size` pixels, every two pixels; what is left at the edges counts too."""
    for axis in (2, 3):
        sides = 1 + math.ceil((images.shape[axis] - size) / 2)
        planes = np.moveaxis(images, axis, 0)
        found = planes[: 2 * sides - 1 : 2].copy()
        for shift in range(1, size):
            part = planes[shift : shift + 2 * sides - 1 : 2]
            np.maximum(found[: len(part)], part, out=found[: len(part)])
        images = np.moveaxis(found, 0, axis)
    return np.ascontiguousarray(images)


def _flat(images: Floats) -> Floats:
    """(N, K) in the order of the training: across, down, channels."""
    return images.transpose(1, 3, 2, 0).reshape(images.shape[1], -1)


def _face_share(values: Floats) -> Floats:
    """The second of two along the first axis, by softmax: how sure the network is of a face, 0..1."""
    share: Floats = 1 / (1 + np.exp(values[0] - values[1]))
    return share


def propose(net: Network, image: Floats) -> tuple[Floats, Floats]:
    """P-Net, of (3, 1, H, W): of each 12 x 12 pixels, every two, how sure it is (h, w), and corrections (h, w, 4)."""
    x = pooled(net.conv(image, "conv1", "prelu1"), 2)
    x = net.conv(np.ascontiguousarray(net.conv(x, "conv2", "prelu2")), "conv3", "prelu3")
    x = np.ascontiguousarray(x)
    return _face_share(net.conv(x, "conv4_1"))[0], np.moveaxis(net.conv(x, "conv4_2")[:, 0], 0, 2)


def refine(net: Network, images: Floats) -> tuple[Floats, Floats]:
    """R-Net, of (3, N, 24, 24): (N,) and (N, 4)."""
    x = pooled(net.conv(images, "conv1", "prelu1"), 3)
    x = net.conv(pooled(net.conv(x, "conv2", "prelu2"), 3), "conv3", "prelu3")
    values = net.dense(_flat(x), "dense4", "prelu4")
    return _face_share(net.dense(values, "dense5_1").T), net.dense(values, "dense5_2")


def settle(net: Network, images: Floats) -> tuple[Floats, Floats, Floats]:
    """O-Net, of (3, N, 48, 48): (N,), (N, 4), and (N, 5, 2) the landmarks x, y as shares of the box."""
    x = pooled(net.conv(images, "conv1", "prelu1"), 3)
    x = pooled(net.conv(x, "conv2", "prelu2"), 3)
    x = net.conv(pooled(net.conv(x, "conv3", "prelu3"), 2), "conv4", "prelu4")
    values = net.dense(_flat(x), "dense5", "prelu5")
    points = net.dense(values, "dense6_3").reshape(-1, 2, 5).swapaxes(1, 2)
    return _face_share(net.dense(values, "dense6_1").T), net.dense(values, "dense6_2"), points
