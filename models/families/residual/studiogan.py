"""SNGAN, SAGAN, BigGAN and the many GANs with such generators, as PyTorch-StudioGAN trains them: Kang, Shin, Park,
"StudioGAN: A Taxonomy and Benchmark of GANs for Image Synthesis", 2022, arXiv:2206.09479.

Reads `model=G-...-weights-step=<n>.pth` and `model=G_ema-...` of POSTECH-CVLab/PyTorch-StudioGAN with the backbones
resnet, big_resnet, big_resnet_deep_legacy and big_resnet_deep_studiogan: conditional or not, with and without spectral
normalisation, attention anywhere. A YAML file next to the weights says what no tensor does: the activation, how latents
are sampled (a uniform prior is made from the standard normal latent here), and the backbone if classes are as many as
the latent's numbers. Differences: the statistics are the stored ones, while the repository may measure anew with
`-std_stat` or `-batch_stat`. Not read: InfoGAN's extra codes, deep_conv, and its copies of StyleGAN2 and StyleGAN3.
"""

from collections.abc import Mapping

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.residual.attention import fold_gain
from models.families.residual.entries import entries, joined_norms, side_px
from models.families.residual.spectral import fold_stored
from models.families.residual.trunk_config import TrunkConfig
from models.state_dict import Rules, load, rename, shape, weight_shape

EPS = 1e-4
ACTIVATIONS = {
    "ReLU": nn.ReLU(),
    "Leaky_ReLU": nn.LeakyReLU(0.1),
    "ELU": nn.ELU(),
    "GELU": nn.GELU(),
}
BACKBONES = ("resnet", "big_resnet", "big_resnet_deep_legacy", "big_resnet_deep_studiogan")
SETTINGS = {
    "g_act_fn": Setting("ReLU", "MODEL.g_act_fn of the YAML file", tuple(ACTIVATIONS)),
    "z_prior": Setting("gaussian", "MODEL.z_prior of the YAML file", ("gaussian", "uniform")),
    "backbone": Setting("auto", "MODEL.backbone, where the weights leave open which", ("auto", *BACKBONES)),
}
NAMES: Rules = {
    r"linear0\.(.*)": r"stem.\1",
    r"shared\.(.*)": r"source.shared.\1",
    r"bn4\.(.*)": r"norm.\1",
    r"conv2d5\.(.*)": r"head.\1",
    r"(layers\.\d+\.)conv2d0\.(.*)": r"\1shortcut.\2",
    r"(layers\.\d+\.)conv2d(\d)\.(.*)": r"\1conv\2.\3",
    r"(layers\.\d+\.)conv1x1_(theta|phi|g)\.(.*)": r"\1\2.\3",
    r"(layers\.\d+\.)conv1x1_attn\.(.*)": r"\1o.\2",
    r"(layers\.\d+\.)bn(\d)\.affine\.(.*)": r"\1norm\2.affine.\3",
    r"(layers\.\d+\.)bn(\d)\.bn\.(.*)": r"\1norm\2.norm.\3",
    r"(layers\.\d+\.)bn(\d)\.(.*)": r"\1norm\2.\3",
}


class UniformPrior(nn.Module):
    """A network whose latents are uniform in [-1, 1], fed with standard normal ones of the same rank."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, latent: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """Images (N, C, H, W) float32 from `latent` (N, Z) float32, standard normal, and `label` (N,) int64."""
        image: torch.Tensor = self.network(torch.erf(latent * 0.5**0.5), label)
        return image


def _matches(state: StateDict) -> bool:
    first = weight_shape(state, "blocks.0.0.conv2d1", 4)[1]
    stem = weight_shape(state, "linear0", 2)
    return (
        first > 0
        and stem[1] > 0
        and stem[0] % first == 0
        and weight_shape(state, "conv2d5", 4)[1] == shape(state, "bn4.running_mean", 1)[0] > 0
        and not any(key.startswith("info_") for key in state)
    )


def _relative(state: StateDict) -> str | None:
    if any(key.startswith(("info_mix_linear.", "info_proj_linear.")) for key in state):
        return "a StudioGAN generator with InfoGAN's extra codes, which are not read"
    if weight_shape(state, "blocks.0.0.deconv0", 4)[0] and weight_shape(state, "conv4", 4)[0]:
        return "a StudioGAN generator with the backbone deep_conv, which is not read"
    if weight_shape(state, "blocks.0.0.conv2d1", 4)[0] and not weight_shape(state, "linear0", 2)[0]:
        return "a StudioGAN discriminator (no linear0), not the generator"
    return None


def _configure(config: Mapping[str, object]) -> Mapping[str, Scalar]:
    model = config.get("MODEL")
    if not isinstance(model, Mapping):
        return {}
    return {key: str(model[key]) for key in SETTINGS if key in model}


def _config(state: StateDict, backbone: str) -> TrunkConfig:
    """Read from `state` with spectral normalisation folded.

    Raises:
        ArchitectureError: the backbone has to be said, or the norms fit none.
    """
    listed = entries(state, "conv2d", "conv1x1_theta")
    if not listed or listed[0].attention:
        raise ArchitectureError("`blocks` does not begin with a residual block")
    stem = shape(state, "linear0.weight", 2)[1]
    size = shape(state, "blocks.0.0.bn1.gain.weight", 2)[1]
    classes, embedding = shape(state, "shared.weight", 2)
    if listed[0].bottleneck:
        condition = "joint"
    elif embedding:
        condition = "chunks"
    elif size == stem and backbone not in ("resnet", "big_resnet"):
        raise ArchitectureError(
            f"the norms depend on {size} numbers, labels or a part of the latent; "
            "pass --set backbone=resnet or --set backbone=big_resnet"
        )
    elif size == stem and backbone == "big_resnet":
        condition = "chunks"
    else:
        condition, classes = ("label", size) if size else ("nothing", 0)
    side = side_px(state.get("linear0.weight"), listed[0].before)
    channels = shape(state, "conv2d5.weight", 4)[0]
    config = TrunkConfig(tuple(listed), condition, stem, side, classes, embedding, channels)
    if not side or (condition in ("joint", "chunks") and size != config.condition_size):
        raise ArchitectureError(f"linear0 gives no square map, or the norms depend on {size} numbers of another making")
    return config


def _weights(state: StateDict, config: TrunkConfig) -> dict[str, torch.Tensor]:
    table = config.condition == "label"
    plain = dict(state)
    if table:  # linear in a one-hot label: columns are the table's rows
        plain = {key: t.T if key.endswith((".gain.weight", ".bias.weight")) else t for key, t in plain.items()}
    plain = joined_norms(plain, table)
    for index, entry in enumerate(config.entries):
        plain = {key.replace(entry.prefix, f"layers.{index}.", 1): tensor for key, tensor in plain.items()}
    return fold_gain(rename(plain, NAMES), "sigma")


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    folded = fold_stored(state)
    config = _config(folded, str(settings["backbone"]))
    activation = ACTIVATIONS.get(str(settings["g_act_fn"]))
    if activation is None or settings["z_prior"] not in ("gaussian", "uniform"):
        raise ArchitectureError(f"g_act_fn={settings['g_act_fn']} or z_prior={settings['z_prior']} is not known")
    network = load(config.network(EPS, EPS, activation), _weights(folded, config))
    if settings["z_prior"] == "uniform":
        network = UniformPrior(network).eval()
    return Generator(
        network=network,
        task=Task.CLASS_CONDITIONAL if config.classes else Task.UNCONDITIONAL,
        hyperparameters={
            "backbone": _backbone(config),
            "img_size": config.size_px,
            "z_dim": config.latent_size,
            "g_shared_dim": config.embedding,
            "g_conv_dim": config.base_width,
            "g_cond_mtd": "cBN" if config.classes else "W/O",
            "num_classes": config.classes,
            "apply_g_sn": "linear0.weight_orig" in state,
            "attn_px": "_".join(map(str, config.attention_px)) or "0",
        },
        channels=config.channels,
        output_range=(-1.0, 1.0),
        max_batch_size=8,
        image_size_px=(config.size_px, config.size_px),
        latent_size=config.latent_size,
        classes=config.classes,
        tolerance=1e-3,
    )


def _backbone(config: TrunkConfig) -> str:
    if config.condition == "joint":
        return "big_resnet_deep_studiogan" if config.blocks[0].projected else "big_resnet_deep_legacy"
    return "big_resnet" if config.condition == "chunks" else "resnet"


ARCHITECTURE = Architecture(
    name="studiogan",
    reference="POSTECH-CVLab/PyTorch-StudioGAN",
    matches=_matches,
    build=_build,
    settings=SETTINGS,
    relative=_relative,
    configure=_configure,
)
