"""The half of NVIDIA's StyleGAN2-ADA and StyleGAN3 generators that both share: from latent and label to styles.

Karras, Laine, Aila, "A Style-Based Generator Architecture for Generative Adversarial Networks", 2018, arXiv:1812.04948.
Reads `mapping.*` of NVlabs/stylegan2-ada-pytorch and NVlabs/stylegan3. Differences: the run-time gains of the layers
are folded into their weights; a label is an index, whose embedding, normalised, is a row of a table; truncation and
given intermediate latents are tensors, one value per image.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from artifact.spec import Scalar
from models.architecture import ArchitectureError, Setting, StateDict
from models.families.style.stylegan2_ops import GAIN, LatentsPerLayer, activate, normalise_second_moment

KEYS = re.compile(r"mapping\.(w_avg|(fc\d+|embed)\.(weight|bias))")
SETTINGS = {
    "truncation_cutoff": Setting(0, "how many of the layers' latents truncation_psi applies to; 0 means all"),
    "lr_multiplier": Setting(0.01, "the mapping network's learning rate multiplier, a factor of its weights"),
}
OUTPUT_RANGE = (-1.0, 1.0)
"""NVIDIA's scripts cut x * 127.5 + 128 down to a whole level, which is x * 127.5 + 127.5 rounded: -1 to 0, 1 to 255."""
TOLERANCE = 1e-3


@dataclass(frozen=True)
class MappingConfig:
    """Sizes of a mapping network; `classes` and `embedding` are 0 without labels."""

    z_dim: int
    classes: int
    embedding: int
    features: tuple[int, ...]  # what each layer gives; the last is w_dim

    @property
    def w_dim(self) -> int:
        """Length of an intermediate latent."""
        return self.features[-1]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape by key."""
        shapes: dict[str, tuple[int, ...]] = {"mapping.w_avg": (self.w_dim,)}
        if self.classes:
            shapes |= fully_connected("mapping.embed", self.classes, self.embedding)
        for index, (inner, outer) in enumerate(
            zip((self.z_dim + self.embedding, *self.features), self.features, strict=False)
        ):
            shapes |= fully_connected(f"mapping.fc{index}", inner, outer)
        return shapes


def fully_connected(prefix: str, inner: int, outer: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a layer's weight and bias by key."""
    return {f"{prefix}.weight": (outer, inner), f"{prefix}.bias": (outer,)}


def mapping_config(state: StateDict) -> MappingConfig | None:
    """The sizes of the mapping network in a state dict; None if it has none."""
    weights = [state.get(f"mapping.fc{index}.weight") for index in range(len(state))]
    layers = [weight for weight in weights if weight is not None and weight.ndim == 2]
    embed = state.get("mapping.embed.weight", torch.empty(0, 0))
    if not layers or embed.ndim != 2 or "mapping.w_avg" not in state:
        return None
    embedding, classes = embed.shape
    z_dim = layers[0].shape[1] - embedding
    return MappingConfig(z_dim, classes, embedding, tuple(len(layer) for layer in layers)) if z_dim > 0 else None


def mapping_settings(config: Mapping[str, object]) -> dict[str, Scalar]:
    """What a pickle's attributes say of the mapping network.

    Raises:
        ArchitectureError: an activation that is not served.
    """
    activation = config.get("mapping.fc0.activation", "lrelu")
    if activation != "lrelu":
        raise ArchitectureError(f"mapping network with activation {str(activation)[:20]}; lrelu is served")
    multiplier = config.get("mapping.fc0.bias_gain")
    return {"lr_multiplier": float(multiplier)} if isinstance(multiplier, int | float) else {}


def affine(state: StateDict, prefix: str, gain: float = 1.0, bias_gain: float | None = None) -> nn.Linear:
    """A fully connected layer with 1/sqrt(inputs) and the gains folded in; `bias_gain` is as `gain` unless given."""
    weight, bias = state[f"{prefix}.weight"].double(), state[f"{prefix}.bias"].double()
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight * (gain / math.sqrt(weight.shape[1])))
        layer.bias.copy_(bias * (gain if bias_gain is None else bias_gain))
    return layer


class MappingNetwork(nn.Module):
    """From latent and label to the intermediate latent."""

    rows: Tensor

    def __init__(self, state: StateDict, config: MappingConfig, lr_multiplier: float) -> None:
        super().__init__()
        gain = lr_multiplier * GAIN
        self.layers = nn.ModuleList(affine(state, f"mapping.fc{index}", gain) for index in range(len(config.features)))
        if config.classes:
            weight, bias = state["mapping.embed.weight"].double(), state["mapping.embed.bias"].double()
            embedded = weight.T / math.sqrt(config.classes) + bias
            self.register_buffer("rows", normalise_second_moment(embedded).float())

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """(N, w_dim) float32 from `latent` (N, Z) float32 and `label` (N,) int64, None without classes."""
        mapped = normalise_second_moment(latent)
        if label is not None:
            mapped = torch.cat([mapped, functional.embedding(label, self.rows)], 1)
        for layer in self.layers:
            mapped = activate(layer(mapped))
        return mapped


class StyleGenerator(nn.Module):
    """A mapping network, truncation, and a synthesis network that takes w (N, layers, w_dim) and noise or transform.

    Args:
        state: with `mapping.*`.
        config: of the mapping network.
        settings: the values of `SETTINGS`.
        synthesis: the other half, with weights.
        layers: how many intermediate latents it takes.
        inputs: names of what `forward` takes, in order.
    """

    def __init__(
        self,
        state: StateDict,
        config: MappingConfig,
        settings: Mapping[str, Scalar],
        synthesis: nn.Module,
        layers: int,
        inputs: Sequence[str],
    ) -> None:
        super().__init__()
        cutoff = int(settings["truncation_cutoff"])
        if not 0 <= cutoff <= layers:
            raise ArchitectureError(f"truncation_cutoff={cutoff}: must be 0 to {layers}, the number of latents")
        self.mapping = MappingNetwork(state, config, float(settings["lr_multiplier"]))
        self.latents = LatentsPerLayer(layers, config.w_dim, cutoff)
        self.latents.average.copy_(state["mapping.w_avg"])
        self.cutoff = cutoff
        self.synthesis = synthesis
        self.inputs = tuple(inputs)
        self.eval().requires_grad_(False)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Images (N, C, H, W) float32, about -1 to 1, from what `models.architecture.Generator.inputs` lists."""
        named = dict(zip(self.inputs, inputs, strict=True))
        mapped = self.mapping(named["latent"], named.get("label"))
        w = self.latents(mapped, named["truncation_psi"], named["w"], named["w_given"])
        image: Tensor = self.synthesis(w, *(named[name] for name in ("noise", "transform") if name in named))
        return image
