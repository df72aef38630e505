"""BigGAN: Brock, Donahue, Simonyan, "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2018,
arXiv:1809.11096.

Reads `G_ema.pth` and `G.pth` of ajbrock/BigGAN-PyTorch, models BigGAN and BigGANdeep: shared or own label embeddings,
hierarchical latents or not, attention anywhere, 32 to 512 px (from the number of blocks), with and without spectral
normalisation (sigma from one power step on the stored u0), statistics as plain, custom (`mybn`) or cross-replica batch
norm stores them. SN_eps and num_G_SVs do not enter. Three things no file says, and settings do:

- BN_eps of the blocks; the last batch norm has 1e-5 whatever BN_eps is.
- With cross-replica batch norm, the repository's training on several GPUs multiplies by the gain, and everything else
  it does, sampling included, adds the gain. Added here too, unless `cross_replica_gain=multiply`.
- Whether custom batch norm holds standing statistics, sums to be divided by the counter next to them: taken to be so
  where the counter is a whole number above 0.

The repository samples in training mode (statistics of the batch) unless --G_eval_mode is given; served is eval mode, in
which an image does not depend on its batch.
"""

from collections.abc import Mapping

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.residual.attention import fold_gain
from models.families.residual.entries import entries, joined_norms, side_px
from models.families.residual.spectral import fold_power_step
from models.families.residual.trunk_config import TrunkConfig
from models.state_dict import Rules, load, rename, shape

LAST_EPS = 1e-5
COUNTER = ".accumulation_counter"
SETTINGS = {
    "BN_eps": Setting(1e-5, "epsilon of the blocks' batch norms"),
    "cross_replica_gain": Setting("add", "what cross-replica batch norm does with its gain", ("add", "multiply")),
    "standing_stats": Setting("auto", "whether custom batch norm holds sums to be divided", ("auto", "yes", "no")),
}
NAMES: Rules = {
    r"linear\.(.*)": r"stem.\1",
    r"shared\.(.*)": r"source.shared.\1",
    r"output_layer\.0\.gain": "norm.weight",
    r"output_layer\.0\.(.*)": r"norm.\1",
    r"output_layer\.2\.(.*)": r"head.\1",
    r"(layers\.\d+\.)conv_sc\.(.*)": r"\1shortcut.\2",
    r"(layers\.\d+\.)bn(\d)\.affine\.(.*)": r"\1norm\2.affine.\3",
    r"(layers\.\d+\.)bn(\d)\.(running_.*|num_batches_tracked)": r"\1norm\2.norm.\3",
}


def _matches(state: StateDict) -> bool:
    first = shape(state, "blocks.0.0.conv1.weight", 4)[1]
    return (
        side_px(state.get("linear.weight"), first) > 0
        and shape(state, "output_layer.2.weight", 4)[0] > 0
        and shape(state, "output_layer.0.gain", 1)[0] > 0
        and shape(state, "blocks.0.0.bn1.gain.weight", 2)[0] > 0
    )


def _relative(state: StateDict) -> str | None:
    if "blocks.0.0.conv1.u0" in state and "linear.u0" in state and "output_layer.2.weight" not in state:
        return "a BigGAN discriminator (blocks and one linear output, no output_layer), not the generator"
    return None


def _config(state: StateDict) -> TrunkConfig:
    """Read from `state` with spectral normalisation folded.

    Raises:
        ArchitectureError: the blocks' conditions fit no way of making them.
    """
    listed = entries(state, "conv", "theta")
    if not listed or listed[0].attention:
        raise ArchitectureError("`blocks` does not begin with a residual block")
    stem = shape(state, "linear.weight", 2)[1]
    gain = shape(state, "blocks.0.0.bn1.gain.weight", 2)
    classes, embedding = shape(state, "shared.weight", 2)
    if not embedding:
        condition, classes = "label", gain[0]
    elif listed[0].bottleneck:
        condition = "joint"
    else:
        condition = "shared" if gain[1] == embedding else "chunks"
    side = side_px(state.get("linear.weight"), listed[0].before)
    config = TrunkConfig(
        tuple(listed), condition, stem, side, classes, embedding, shape(state, "output_layer.2.weight", 4)[0]
    )
    if embedding and gain[1] != config.condition_size:
        raise ArchitectureError(f"the norms depend on {gain[1]} numbers, {config.condition_size} are expected")
    return config


def _plain_statistics(state: StateDict, standing: str) -> dict[str, torch.Tensor]:
    """Every norm's statistics as `running_mean` and `running_var`, standing ones divided by their counter."""
    plain = {key: tensor for key, tensor in state.items() if not key.endswith(COUNTER)}
    for key, counter in state.items():
        count = float(counter) if key.endswith(COUNTER) and counter.numel() == 1 else 0.0
        if count > 0 and (standing == "yes" or (standing == "auto" and count.is_integer())):
            for name in ("stored_mean", "stored_var"):
                full = f"{key.removesuffix(COUNTER)}.{name}"
                plain[full] = plain[full] / count
    rules: Rules = {
        r"(.*?)(?:\.bn)?\.stored_(mean|var)": r"\1.running_\2",
        r"(.*)\.bn\.(running_mean|running_var|num_batches_tracked)": r"\1.\2",
    }
    return rename(plain, rules)


def _adding(weights: Mapping[str, torch.Tensor], table: bool) -> dict[str, torch.Tensor]:
    """The weights of norms that add what the given ones multiply by: gain 1, and the gain in the bias."""
    added = dict(weights)
    for key, tensor in weights.items():
        if key.endswith("affine.weight"):
            gain, bias = tensor.chunk(2, dim=1 if table else 0)
            added[key] = torch.cat([torch.ones_like(gain) if table else 0 * gain, bias + gain], dim=1 if table else 0)
        elif key.endswith("affine.bias"):
            added[key] = torch.ones_like(tensor)
        elif key == "norm.weight":
            added[key] = torch.ones_like(tensor)
            added["norm.bias"] = weights["norm.bias"] + tensor
    return added


def _weights(state: StateDict, config: TrunkConfig, settings: Mapping[str, Scalar]) -> dict[str, torch.Tensor]:
    table = config.condition == "label"
    plain = joined_norms(_plain_statistics(state, str(settings["standing_stats"])), table)
    for index, entry in enumerate(config.entries):
        plain = {key.replace(entry.prefix, f"layers.{index}.", 1): tensor for key, tensor in plain.items()}
    named = fold_gain(rename(plain, NAMES), "gamma")
    is_cross_replica = "blocks.0.0.bn1.bn.running_mean" in state
    return _adding(named, table) if is_cross_replica and settings["cross_replica_gain"] == "add" else named


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    folded = fold_power_step(state)
    config = _config(folded)
    network = config.network(float(settings["BN_eps"]), LAST_EPS, nn.ReLU())
    return Generator(
        network=load(network, _weights(folded, config, settings)),
        task=Task.CLASS_CONDITIONAL,
        hyperparameters={
            "model": "BigGANdeep" if config.depth == 2 else "BigGAN",
            "resolution": config.size_px,
            "G_ch": config.base_width,
            "dim_z": config.latent_size,
            "n_classes": config.classes,
            "shared_dim": config.embedding,
            "hier": config.condition in ("chunks", "joint"),
            "G_attn": "_".join(map(str, config.attention_px)) or "0",
        },
        channels=config.channels,
        output_range=(-1.0, 1.0),
        max_batch_size=8,
        image_size_px=(config.size_px, config.size_px),
        latent_size=config.latent_size,
        classes=config.classes,
        tolerance=1e-3,
    )


ARCHITECTURE = Architecture(
    name="biggan",
    reference="ajbrock/BigGAN-PyTorch BigGAN and BigGANdeep",
    matches=_matches,
    build=_build,
    settings=SETTINGS,
    relative=_relative,
)
