"""SPADE (GauGAN): Park, Liu, Wang, Zhu, "Semantic Image Synthesis with Spatially-Adaptive Normalization", 2019,
arXiv:1903.07291.

Reads NVlabs/SPADE's `<epoch>_net_G.pth`, spectral norm attached or folded. What goes in is a label map: a grey image of
class numbers; where the network has a channel for instances' edges, red is the class, green and blue the instance (a
grey image says both at once). Numbers beyond the classes are refused.
Any size that the halvings divide is taken. Networks of `--use_vae` have the size of their training, and take a latent.
"""

from collections.abc import Mapping
from math import isqrt

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.translation.label_maps import UNKNOWN, LabelMap
from models.families.translation.translator_layers import NORM_STATISTICS, holds, norm, without_statistics
from models.normalisation import fold
from models.state_dict import load, shape

SLOPE = 0.2
HALVINGS = {"normal": 5, "more": 6, "most": 7}
# Channels that go in, of the repository's own data sets: classes, whether the last is "unknown", edges of instances.
KNOWN = {184: (183, True, True), 151: (151, True, False), 36: (35, False, True)}
SETTINGS = {
    "upsampling": Setting(
        "normal",
        "num_upsampling_layers, which no tensor tells: normal (COCO, ADE20k) or more (Cityscapes); most has up_4",
        ("normal", "more", "most"),
    ),
    "aspect_ratio": Setting(1.0, "width / height of the training's crops, for networks with a latent (use_vae)"),
    "norm_statistics": NORM_STATISTICS,
    "input": Setting(
        "auto",
        "what the input channels are; auto: 184 (COCO), 151 (ADE20k) and 36 (Cityscapes) are known",
        ("auto", "labels", "labels+instances"),
    ),
    "unknown": Setting(
        "auto",
        "whether the last class is unknown, which the number 255 means too; auto: of 184 and 151 channels",
        ("auto", "true", "false"),
    ),
}


class SpadeNorm(nn.Module):
    """A norm without weights whose scale and shift convs make of the label map."""

    def __init__(self, channels: int, labels: int, hidden: int, kernel: int, kind: str) -> None:
        super().__init__()
        norms = {"batch": nn.BatchNorm2d(channels, affine=False)}
        self.param_free_norm = norms.get(kind) or norm("instance", channels)
        self.mlp_shared = nn.Sequential(nn.Conv2d(labels, hidden, kernel, padding=kernel // 2), nn.ReLU())
        self.mlp_gamma, self.mlp_beta = (nn.Conv2d(hidden, channels, kernel, padding=kernel // 2) for _ in range(2))

    def forward(self, maps: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) float32; `labels` (N, L, H, W), the label map at that size."""
        shared = self.mlp_shared(labels)
        normed: torch.Tensor = self.param_free_norm(maps) * (1 + self.mlp_gamma(shared)) + self.mlp_beta(shared)
        return normed


class SpadeBlock(nn.Module):
    """Two 3x3 convs after SPADE norms, added to the input, which a third norm and a 1x1 conv widen if they must."""

    def __init__(self, before: int, after: int, labels: int, hidden: int, kernel: int, kind: str) -> None:
        super().__init__()
        middle = min(before, after)
        self.conv_0, self.conv_1 = nn.Conv2d(before, middle, 3, padding=1), nn.Conv2d(middle, after, 3, padding=1)
        self.norm_0, self.norm_1 = (SpadeNorm(width, labels, hidden, kernel, kind) for width in (before, middle))
        self.widens = before != after
        if self.widens:
            self.conv_s = nn.Conv2d(before, after, 1, bias=False)
            self.norm_s = SpadeNorm(before, labels, hidden, kernel, kind)

    def forward(self, maps: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(N, after, H, W) float32; `labels` (N, L, H, W)."""
        change = self.conv_0(F.leaky_relu(self.norm_0(maps, labels), SLOPE))
        change = self.conv_1(F.leaky_relu(self.norm_1(change, labels), SLOPE))
        kept = self.conv_s(self.norm_s(maps, labels)) if self.widens else maps
        added: torch.Tensor = kept + change
        return added


class SpadeGenerator(nn.Module):
    """The label map at its smallest, or a latent, then blocks and doublings.

    Args:
        labels: channels of the label map.
        width: `ngf`.
        latent: length of the latent; 0: there is none.
        smallest: (H, W) of the first maps, where a latent makes them.
        halvings: of the label map, 5 to 7.
        hidden: maps within the norms.
        kernel: of the norms' convs, px.
        kind: of the norms: batch or instance.
    """

    def __init__(
        self, labels: int, width: int, latent: int, smallest: tuple[int, int], halvings: int, hidden: int, kernel: int,
        kind: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.halvings, self.first, self.smallest = halvings, 16 * width, smallest
        made = 16 * width * smallest[0] * smallest[1]
        self.fc = nn.Linear(latent, made) if latent else nn.Conv2d(labels, 16 * width, 3, padding=1)

        def block(before: int, after: int) -> SpadeBlock:
            return SpadeBlock(before, after, labels, hidden, kernel, kind)

        self.head_0, self.G_middle_0, self.G_middle_1 = (block(16 * width, 16 * width) for _ in range(3))
        for place in range(4):
            self.add_module(f"up_{place}", block(16 * width >> place, 8 * width >> place))
        self.has_most = halvings == HALVINGS["most"]
        if self.has_most:
            self.up_4 = block(width, width // 2)
        self.conv_img = nn.Conv2d(width // 2 if self.has_most else width, 3, 3, padding=1)

    def forward(self, labels: torch.Tensor, *latent: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) float32 in [-1, 1].

        Args:
            labels: (N, L, H, W) float32, 1 for each pixel's class (and along the edges of instances), else 0; H and W
                multiples of 2^halvings.
            latent: (N, Z) float32, if the network takes one.
        """
        if latent:
            maps = self.fc(latent[0]).reshape(-1, self.first, *self.smallest)
        else:
            maps = self.fc(_shrunk(labels, self.halvings))
        step = self.halvings
        maps = self.head_0(maps, _shrunk(labels, step))
        doubles = (True, self.halvings > HALVINGS["normal"], True, True, True, True, self.has_most)
        blocks = [self.G_middle_0, self.G_middle_1, *(self.get_submodule(f"up_{place}") for place in range(4))]
        blocks += [self.up_4] if self.has_most else []
        for one, is_doubled in zip(blocks, doubles, strict=False):
            if is_doubled:
                maps, step = F.interpolate(maps, scale_factor=2.0, mode="nearest"), step - 1
            maps = one(maps, _shrunk(labels, step))
        return torch.tanh(self.conv_img(F.leaky_relu(maps, SLOPE)))


def _shrunk(labels: torch.Tensor, halvings: int) -> torch.Tensor:
    """To the nearest pixel: of each square of 2^halvings pixels the first one."""
    return labels[:, :, :: 1 << halvings, :: 1 << halvings]


def _sizes(state: StateDict, settings: Mapping[str, Scalar]) -> dict[str, object] | None:
    """What the network is made with; None if these are none."""
    width = shape(state, "conv_img.weight", 4)[1]
    width *= 2 if "up_4.conv_0.weight" in state else 1
    hidden, labels, kernel, _ = shape(state, "head_0.norm_0.mlp_shared.0.weight", 4)
    made, latent = shape(state, "fc.weight", 2)
    if not (width and hidden and labels and kernel) or (not latent and not shape(state, "fc.weight", 4)[0]):
        return None
    upsampling = "most" if "up_4.conv_0.weight" in state else str(settings["upsampling"])
    aspect, pixels = float(settings["aspect_ratio"]), made // (16 * width)
    across = isqrt(round(pixels * aspect)) if aspect > 0 else 0
    return {
        "labels": labels,
        "width": width,
        "latent": latent,
        "smallest": (pixels // across if across else 0, across) if latent else (0, 0),
        "halvings": HALVINGS["more" if upsampling == "most" and "up_4.conv_0.weight" not in state else upsampling],
        "hidden": hidden,
        "kernel": kernel,
        "kind": "batch" if "head_0.norm_0.param_free_norm.running_mean" in state else "instance",
    }


def _defaults() -> dict[str, Scalar]:
    return {name: setting.default for name, setting in SETTINGS.items()}


def _matches(state: StateDict) -> bool:
    if "G_middle_0.norm_0.mlp_gamma.weight" not in state:
        return False
    weights = fold(state)
    sizes = _sizes(weights, _defaults())
    if sizes is None:
        return False
    if sizes["latent"]:  # of any shape: the number of pixels is what the tensors tell
        pixels = weights["fc.weight"].shape[0] // (16 * int(str(sizes["width"])))
        sizes["smallest"] = (1, pixels)
    return holds(lambda: SpadeGenerator(**sizes), weights)  # type: ignore[arg-type]


def _encode(channels: int, settings: Mapping[str, Scalar]) -> tuple[int, bool, bool]:
    """(classes, whether the last is unknown, whether the last channel is edges).

    Raises:
        ArchitectureError: channels that can be read in several ways.
    """
    asked, unknown = str(settings["input"]), str(settings["unknown"])
    if asked == "auto" and channels not in KNOWN:
        raise ArchitectureError(
            f"{channels} input channels can be {channels} labels (--set input=labels), or {channels - 1} labels and "
            "instance edges (--set input=labels+instances)"
        )
    known = KNOWN.get(channels, (channels, False, False))
    edges = known[2] if asked == "auto" else asked.endswith("+instances")
    classes = channels - edges
    is_unknown = unknown == "true" if unknown != "auto" else known[1] and classes == known[0]
    if classes > UNKNOWN + (not is_unknown):
        raise ArchitectureError(f"{classes} classes; a label map of 8 bits has at most {UNKNOWN + (not is_unknown)}")
    return classes, is_unknown, edges


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    weights: StateDict = fold(state)
    sizes = _sizes(weights, settings)
    assert sizes is not None, "only called where _matches"
    classes, is_unknown, edges = _encode(int(str(sizes["labels"])), settings)
    halvings, latent, kind = int(str(sizes["halvings"])), int(str(sizes["latent"])), str(sizes["kind"])
    if kind == "batch" and settings["norm_statistics"] == "picture":
        weights, sizes = without_statistics(weights), {**sizes, "kind": "instance"}
    network = SpadeGenerator(**sizes)  # type: ignore[arg-type]
    height, width = network.smallest
    if latent and len(weights["fc.weight"]) != network.first * height * width:
        pixels = len(weights["fc.weight"]) // network.first
        raise ArchitectureError(
            f"the latent makes {pixels} pixels, which are no {settings['aspect_ratio']:g}:1; --set aspect_ratio=FLOAT"
        )
    return Generator(
        network=load(network, weights),
        task=Task.IMAGE_TO_IMAGE,
        hyperparameters={
            "label_nc": classes,
            "no_instance": not edges,
            "ngf": int(str(sizes["width"])),
            "z_dim": latent,
            "norm": kind,
            "upsampling": next(name for name, count in HALVINGS.items() if count == halvings),
        },
        channels=3,
        output_range=(-1.0, 1.0),
        max_batch_size=1,
        image_size_px=(height << halvings, width << halvings),
        input_channels=3 if edges else 1,
        encode=LabelMap(classes, edges, is_unknown),
        input_levels=classes,
        input_classes=classes,
        input_unknown=UNKNOWN if is_unknown else None,
        latent_size=latent,
        multiple_px=2**halvings,
        least_px=2**halvings,
        settled=_settled(network.has_most, latent > 0, kind),
    )


def _settled(has_most: bool, has_latent: bool, kind: str) -> tuple[str, ...]:
    """The settings that mean nothing here."""
    told = {"upsampling": has_most, "aspect_ratio": not has_latent, "norm_statistics": kind == "instance"}
    return tuple(name for name, is_settled in told.items() if is_settled)


def _relative(state: StateDict) -> str | None:
    if {"layer1.0.weight_bar", "fc_mu.weight"} <= state.keys() or {"fc_mu.weight", "fc_var.weight"} <= state.keys():
        return "the encoder of a SPADE run (<epoch>_net_E.pth), not the generator (<epoch>_net_G.pth)"
    return None


ARCHITECTURE = Architecture(
    name="spade",
    reference="NVlabs/SPADE",
    matches=_matches,
    build=_build,
    settings=SETTINGS,
    relative=_relative,
)
