"""StarGAN v2: Choi, Uh, Yoo, Ha, "StarGAN v2: Diverse Image Synthesis for Multiple Domains", 2019, arXiv:1912.01865.

Reads clovaai/stargan-v2's `<iteration>_nets_ema.ckpt`: generator, mapping network and style encoder together. What goes
in beside the image is a domain and a style of it: drawn from a latent by the mapping network, or taken from a reference
image by the style encoder. All sizes are read from the weights; the generator takes any size that its halvings divide,
references are resized to the training's.
Networks with a high-pass filter (CelebA-HQ) were sampled with masks of eyes, nose and mouth from a network that finds
landmarks (`fan`), which are left out: less of the source's face is kept. Truncation is left out too.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, Setting, StateDict
from models.families.translation.stargan_v2_layers import MappingNetwork, StyleEncoder, TranslatingGenerator
from models.families.translation.translator_layers import holds
from models.state_dict import count, load, shape

PARTS = ("generator", "mapping_network", "style_encoder")
LANDMARKS = "fan."
NO_MASKS = "landmarks (fan) are not used: eyes, nose and mouth of the source are kept less than with its masks"
DOMAINS = {"afhq": ("cat", "dog", "wild"), "celeba_hq": ("female", "male")}
SETTINGS = {
    "style": Setting(
        "both",
        "where a style comes from: a seed (latent), a reference image, or either, as the request says",
        ("both", "latent", "reference"),
    ),
    "domains": Setting(
        "auto",
        "what the domains are, in the order of their folders; auto: celeba_hq with a high-pass filter and 2, afhq "
        "without one and 3; none: they have numbers",
        ("auto", *DOMAINS, "none"),
    ),
}


class StarganV2(nn.Module):
    """The three networks as one: an image, a domain and a style of it -> the image in that domain and style.

    Args:
        sizes: what `TranslatingGenerator`, `MappingNetwork` and `StyleEncoder` are made with.
        style: where the style comes from, see SETTINGS.
    """

    def __init__(self, sizes: Mapping[str, Mapping[str, Any]], style: str = "both") -> None:
        super().__init__()
        self.style = style
        self.generator = TranslatingGenerator(**sizes["generator"])
        if style != "reference":
            self.mapping_network = MappingNetwork(**sizes["mapping_network"])
        if style != "latent":
            self.style_encoder = StyleEncoder(**sizes["style_encoder"])

    def forward(self, image: torch.Tensor, label: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) float32, about [-1, 1].

        Args:
            image: (N, 3, H, W) float32 in [-1, 1].
            label: (N,) int64, the domain.
            given: `latent` (N, Z) float32; `reference` (N, 3, size, size) float32 in [-1, 1]; if there are both,
                `reference_given` (N,) float32: 1 where the style comes from the reference, else 0.
        """
        if self.style == "latent":
            style = self.mapping_network(given[0], label)
        elif self.style == "reference":
            style = self.style_encoder(given[0], label)
        else:
            latent, reference, from_reference = given
            is_given = from_reference[:, None] > 0.5
            style = torch.where(is_given, self.style_encoder(reference, label), self.mapping_network(latent, label))
        translated: torch.Tensor = self.generator(image, style)
        return translated


def _sizes(state: StateDict) -> dict[str, dict[str, Any]] | None:
    """What the three networks are made with; None if these are none."""
    width = shape(state, "generator.from_rgb.weight", 4)[0]
    style = shape(state, "mapping_network.unshared.0.6.weight", 2)[0]
    encoded = count(state, "generator.encode")
    blocks = sum(f"style_encoder.shared.{place}.conv1.weight" in state for place in range(1, len(state)))
    hidden, latent = shape(state, "mapping_network.shared.0.weight", 2)
    domains = count(state, "mapping_network.unshared")
    if not (width and style and latent and blocks and domains and 2 < encoded <= 12 and blocks <= 12):
        return None
    widths = [width] + [shape(state, f"generator.encode.{i}.conv2.weight", 4)[0] for i in range(encoded)]
    inner = [shape(state, "style_encoder.shared.0.weight", 4)[0]]
    inner += [shape(state, f"style_encoder.shared.{i + 1}.conv2.weight", 4)[0] for i in range(blocks)]
    if 0 in widths or 0 in inner:
        return None
    has_filter = "generator.hpf.filter" in state
    return {
        "generator": {"widths": widths, "style": style, "has_filter": has_filter},
        "mapping_network": {"latent": latent, "hidden": hidden, "style": style, "domains": domains},
        "style_encoder": {"widths": inner, "style": style, "domains": domains},
    }


def _without_landmarks(state: StateDict) -> StateDict:
    return {key: tensor for key, tensor in state.items() if not key.startswith(LANDMARKS)}


def _matches(state: StateDict) -> bool:
    sizes = _sizes(state)
    return sizes is not None and holds(lambda: StarganV2(sizes), _without_landmarks(state))


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    sizes, weights = _sizes(state), _without_landmarks(state)
    assert sizes is not None, "only called where _matches"
    style = str(settings["style"])
    unused = {"latent": "style_encoder.", "reference": "mapping_network."}.get(style, LANDMARKS)
    weights = {key: value for key, value in weights.items() if not key.startswith(unused)}
    network = load(StarganV2(sizes, style), weights)
    mapping, widths = sizes["mapping_network"], sizes["generator"]["widths"]
    size_px = 4 << len(sizes["style_encoder"]["widths"]) - 1
    has_filter = sizes["generator"]["has_filter"]
    halvings = len(widths) - 3
    return Generator(
        network=network,
        task=Task.IMAGE_TO_IMAGE,
        hyperparameters={
            "img_size": size_px,
            "latent_dim": mapping["latent"],
            "style_dim": mapping["style"],
            "num_domains": mapping["domains"],
            "w_hpf": round(8.0 / float(state["generator.hpf.filter"][1, 1]), 4) if has_filter else 0,
            "style": style,
        },
        channels=3,
        output_range=(-1.0, 1.0),
        max_batch_size=4,
        input_range=(-1.0, 1.0),
        input_channels=3,
        classes=mapping["domains"],
        label_names=_names(str(settings["domains"]), mapping["domains"], has_filter),
        latent_size=0 if style == "reference" else mapping["latent"],
        reference_size_px=(0, 0) if style == "latent" else (size_px, size_px),
        multiple_px=2**halvings,
        least_px=2 ** (halvings + 1),  # of one pixel an instance norm leaves nothing
        settled=("style",),
        notes=(NO_MASKS,) if has_filter else (),
    )


def _names(asked: str, domains: int, has_filter: bool) -> tuple[str, ...]:
    if asked == "auto":
        asked = {(2, True): "celeba_hq", (3, False): "afhq"}.get((domains, has_filter), "none")
    names = DOMAINS.get(asked, ())
    return names if len(names) == domains else ()


def _relative(state: StateDict) -> str | None:
    whole = "give the whole *_nets_ema.ckpt, which has generator, mapping_network and style_encoder"
    if {"from_rgb.weight", "encode.0.conv1.weight", "decode.0.norm1.fc.weight"} <= state.keys():
        return f"a StarGAN v2 generator alone; {whole}"
    if {"shared.0.weight", "unshared.0.0.weight", "unshared.0.6.weight"} <= state.keys():
        return f"a StarGAN v2 mapping network alone; {whole}"
    if {"shared.0.weight", "shared.1.conv1.weight", "unshared.0.weight"} <= state.keys():
        return f"a StarGAN v2 style encoder alone; {whole}"
    if {"main.0.weight", "main.1.conv1.weight", "main.1.conv2.weight"} <= state.keys():
        return "a StarGAN v2 discriminator, not the generator"
    return None


ARCHITECTURE = Architecture(
    name="stargan-v2",
    reference="clovaai/stargan-v2",
    matches=_matches,
    build=_build,
    settings=SETTINGS,
    relative=_relative,
)
