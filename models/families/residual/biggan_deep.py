"""BigGAN-deep: Brock, Donahue, Simonyan, "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2018,
arXiv:1809.11096.

Reads huggingface/pytorch-pretrained-BigGAN: `pytorch_model.bin`, and the `config.json` next to it for what no tensor
tells: `eps`, and which blocks double (without a config every second one, as in all published models).

Truncation. `truncation_psi` in (0, 1], default 0.4 as in the repository's README, picks the batch-norm statistics,
which are stored for n_stats (51) values of it, row by row. Between two of them the repository gives the LOWER one the
fraction as its weight and the upper one the rest; so it is here. At the stored values themselves it divides in float64,
where 5 of 50 quotients miss the whole number and take a neighbour's statistics; a psi within 1e-4 of such a value is
taken to be that decimal number and given what the repository gives it.

Latents. The repository's callers pass truncation * (a normal cut off at -2 and 2). Latents here are standard normal, so
the graph itself makes the one from the other: z = psi * F(latent) with F the map between the two distributions,
sqrt(2) erfinv(erf(2 / sqrt 2) erf(latent / sqrt 2)), to about 1e-6. `--set latent=truncated` leaves the latent as it
is, for callers that pass what the repository's do.

Differences: labels are indices, not class vectors. Of the channel_width channels that the last conv makes, only the
first three, the image, are computed.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.residual.attention import SelfAttention, fold_gain
from models.families.residual.conditional_norm import linear_weights
from models.families.residual.spectral import fold_stored
from models.families.residual.stored_truncation import Constant, StatisticsWeights, StoredNorm, cut_off
from models.families.residual.trunk import BottleneckBlock
from models.state_dict import Rules, load, rename, shape, weight_shape

SIDE_PX = 4
SETTINGS = {
    "eps": Setting(1e-4, "epsilon of batch norm, config.json's `eps`"),
    "doubles": Setting("alternate", "one 0 or 1 for each block, whether it doubles, as config.json's `layers` says"),
    "latent": Setting(
        "normal", "what latents are: standard normal, or truncated by the caller", ("normal", "truncated")
    ),
}


class BigGanDeep(nn.Module):
    """The generator.

    Args:
        latent: length Z of the latent, and of a label's embedding.
        classes: number of labels.
        layers: bottleneck blocks and attention.
        widths: channels of the first map and of the last.
        stats: how many truncations statistics are stored for.
        eps: of batch norm.
        is_normal: whether latents come standard normal, to be cut off and scaled here.
    """

    def __init__(
        self,
        latent: int,
        classes: int,
        layers: Sequence[nn.Module],
        widths: tuple[int, int],
        stats: int,
        eps: float,
        is_normal: bool,
    ) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(classes, latent)
        self.statistics_weights = StatisticsWeights(stats)
        self.stem = nn.Linear(2 * latent, widths[0] * SIDE_PX**2)
        self.layers = nn.ModuleList(layers)
        self.norm = StoredNorm(widths[1], stats, 2 * latent, Constant(2 * widths[1]), eps)
        self.head = nn.Conv2d(widths[1], 3, 3, 1, 1)
        self.output = nn.Tanh()
        self.first_map = (widths[0], SIDE_PX, SIDE_PX)
        self.is_normal = is_normal

    def forward(self, latent: torch.Tensor, label: torch.Tensor, truncation_psi: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) float32 in [-1, 1].

        Args:
            latent: (N, Z) float32, standard normal.
            label: (N,) int64 in 0..classes-1.
            truncation_psi: (N,) float32 in (0, 1].
        """
        if self.is_normal:
            latent = cut_off(latent) * truncation_psi[:, None]
        vector = torch.cat([latent, self.embeddings(label)], dim=1)
        condition = torch.cat([vector, self.statistics_weights(truncation_psi)], dim=1)
        x = self.stem(vector).unflatten(1, self.first_map)
        for layer in self.layers:
            x = layer(x) if isinstance(layer, SelfAttention) else layer(x, condition)
        image: torch.Tensor = self.output(self.head(torch.relu(self.norm(x, condition))))
        return image


def _matches(state: StateDict) -> bool:
    latent, classes = shape(state, "embeddings.weight", 2)
    stem = weight_shape(state, "generator.gen_z", 2)
    return (
        latent > 0
        and classes > 0
        and stem[1] == 2 * latent
        and stem[0] % SIDE_PX**2 == 0
        and shape(state, "generator.bn.running_means", 2)[1] > 0
        and weight_shape(state, "generator.conv_to_rgb", 4)[1] == shape(state, "generator.bn.running_means", 2)[1]
    )


def _configure(config: Mapping[str, object]) -> Mapping[str, Scalar]:
    found: dict[str, Scalar] = {}
    if isinstance(eps := config.get("eps"), float):
        found["eps"] = eps
    if isinstance(layers := config.get("layers"), Sequence) and all(isinstance(layer, Sequence) for layer in layers):
        found["doubles"] = "".join(str(int(bool(layer[0]))) for layer in layers)
    return found


def _layers(
    state: StateDict, conditioned: int, stats: int, eps: float, doubles: str
) -> tuple[list[nn.Module], tuple[int, int]]:
    """(blocks and attention in order, channels of the first map and of the last).

    Raises:
        ArchitectureError: `doubles` does not say of every block whether it doubles.
    """

    def norm(channels: int) -> nn.Module:
        return StoredNorm(channels, stats, conditioned, nn.Linear(conditioned, 2 * channels), eps)

    found = (re.match(r"generator\.layers\.(\d+)\.", key) for key in state)
    prefixes = [f"generator.layers.{index}." for index in sorted({int(match[1]) for match in found if match})]
    width = weight_shape(state, "generator.gen_z", 2)[0] // SIDE_PX**2
    first, blocks = width, [prefix for prefix in prefixes if weight_shape(state, f"{prefix}conv_0", 4)[1]]
    if doubles == "alternate":
        doubles = "01" * (len(blocks) // 2) + "0" * (len(blocks) % 2)
    if len(doubles) != len(blocks) or set(doubles) - set("01"):
        raise ArchitectureError(f"doubles={doubles}: must be a 0 or 1 for each of {len(blocks)} blocks")
    layers: list[nn.Module] = []
    for prefix in prefixes:
        if prefix not in blocks:
            layers.append(SelfAttention(width))
            continue
        after = weight_shape(state, f"{prefix}conv_3", 4)[0]
        layers.append(BottleneckBlock(width, after, norm, nn.ReLU(), doubles[blocks.index(prefix)] == "1"))
        width = after
    return layers, (first, width)


NAMES: Rules = {
    r"generator\.gen_z\.(.*)": r"stem.\1",
    r"generator\.conv_to_rgb\.(.*)": r"head.\1",
    r"generator\.(layers\.\d+)\.snconv1x1_(theta|phi|g|o)(?:_conv)?\.(.*)": r"\1.\2.\3",
    r"generator\.(.*)": r"\1",
}


def _weights(state: StateDict) -> dict[str, torch.Tensor]:
    """Under the network's names; the stem's rows from (H, W, C) to (C, H, W), the image's three channels alone."""
    named = fold_gain(rename(fold_stored(state), NAMES), "gamma")
    named = {re.sub(r"\.(conv|bn)_(\d)\.", _counted_from_one, key): tensor for key, tensor in named.items()}
    for key in [key for key in named if key.endswith(".running_means")]:
        prefix = key.removesuffix("running_means")
        parts = [named.pop(key), named.pop(f"{prefix}running_vars")]
        named[f"{prefix}statistics"] = torch.cat(parts, dim=1)
        if f"{prefix}scale.weight" in named:
            linear = linear_weights(named.pop(f"{prefix}scale.weight"), named.pop(f"{prefix}offset.weight"))
            named.update({prefix + name: tensor for name, tensor in linear.items()})
    named["norm.affine.values"] = torch.cat([named.pop("bn.weight"), named.pop("bn.bias")])[None]
    named["norm.statistics"] = named.pop("bn.statistics")
    named["embeddings.weight"] = named["embeddings.weight"].T
    for name in ("stem.weight", "stem.bias"):
        rows = torch.unflatten(named[name], 0, (SIDE_PX**2, -1))
        named[name] = rows.transpose(0, 1).flatten(0, 1)
    for name in ("head.weight", "head.bias"):
        named[name] = named[name][:3]
    return {key: tensor.contiguous() for key, tensor in named.items()}


def _counted_from_one(found: re.Match[str]) -> str:
    return f".{'norm' if found[1] == 'bn' else 'conv'}{int(found[2]) + 1}."


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    latent, classes = shape(state, "embeddings.weight", 2)
    stats = shape(state, "generator.bn.running_means", 2)[0]
    eps = float(settings["eps"])
    layers, widths = _layers(state, 2 * latent, stats, eps, str(settings["doubles"]))
    network = BigGanDeep(latent, classes, layers, widths, stats, eps, settings["latent"] == "normal")
    try:
        weights = _weights(state)
    except KeyError as error:
        raise ArchitectureError(f"missing tensor {error}") from None
    blocks = [layer for layer in layers if isinstance(layer, BottleneckBlock)]
    size_px = SIDE_PX * int(2 ** sum(isinstance(block.upsample, nn.Upsample) for block in blocks))
    places = [index for index, layer in enumerate(layers) if isinstance(layer, SelfAttention)]
    return Generator(
        network=load(network, weights),
        task=Task.CLASS_CONDITIONAL,
        hyperparameters={
            "output_dim": size_px,
            "z_dim": latent,
            "channel_width": widths[1],
            "num_classes": classes,
            "layers": len(blocks),
            "attention_layer_position": places[0] if places else "none",
            "n_stats": stats,
        },
        channels=3,
        output_range=(-1.0, 1.0),
        max_batch_size=8,
        image_size_px=(size_px, size_px),
        latent_size=latent,
        classes=classes,
        truncation_default=0.4,
        truncation_range=(0.001, 1.0),
        tolerance=1e-3,
    )


ARCHITECTURE = Architecture(
    name="biggan-deep",
    reference="huggingface/pytorch-pretrained-BigGAN",
    matches=_matches,
    build=_build,
    settings=SETTINGS,
    configure=_configure,
)
