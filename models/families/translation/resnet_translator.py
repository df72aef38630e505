"""CycleGAN's generator: Zhu, Park, Isola, Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent
Adversarial Networks", 2017, arXiv:1703.10593; with blur-pool resampling in CUT: Park, Efros, Zhang, Zhu, "Contrastive
Learning for Unpaired Image-to-Image Translation", 2020, arXiv:2007.15651.

Reads the checkpoints of junyanz/pytorch-CycleGAN-and-pix2pix (`ResnetGenerator`, `<epoch>_net_G_A.pth`), of
taesungp/contrastive-unpaired-translation (the same class with `model.<i>.filt`; `--no_antialias` and
`--no_antialias_up` in any combination), and eriklindernoren/PyTorch-GAN `cyclegan` (`model.<i>.block.<k>`). Any number
of blocks; batch norm, instance norm or none; with or without dropout. Running statistics of an InstanceNorm
(checkpoints until 2018) are ignored, as the repository does.
Differences: dropout is off and batch norm uses its stored statistics, which is the repository's `test.py --eval`.
Without `--eval` it uses each image's own statistics (`--set norm_statistics=picture`) and dropout (not offered).
PyTorch-GAN pads by as many pixels as there are channels; where that is not 3 its output has another size than its input
and cannot have been trained, so the padding must be said.
"""

from collections.abc import Mapping
from dataclasses import replace

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.translation.colouring import SIZE, coloured
from models.families.translation.patch_discriminators import describe
from models.families.translation.translator_layers import (
    NORM_STATISTICS,
    ResnetConfig,
    ResnetTranslator,
    block_indices,
    holds,
    last_index,
    without_statistics,
    without_unused_statistics,
)
from models.state_dict import load

PYTORCH_GAN_PADDING = 3


def _config(state: StateDict) -> ResnetConfig | None:
    """What the weights are, blocks at least; None if the first and last conv are not there."""
    blocks, last = block_indices(state), last_index(state)
    first, final = state.get("model.1.weight"), state.get(f"model.{last}.weight")
    if not blocks or first is None or final is None or first.ndim != 4 or final.ndim != 4:
        return None
    kernels = [int(key.split(".")[1]) for key in state if key.endswith(".filt")]
    biased = "model.1.bias" in state
    return ResnetConfig(
        inputs=first.shape[1],
        outputs=final.shape[0],
        width=first.shape[0],
        blocks=len(blocks),
        kind="batch" if "model.2.weight" in state else "instance" if biased else "none",
        biased=biased,
        dropout=f"model.{blocks[0]}.conv_block.5.weight" not in state,
        blurred_halving=any(place < blocks[0] for place in kernels),
        doubling="blur" if any(place > blocks[0] for place in kernels) else "transposed",
    )


def _matches(state: StateDict) -> bool:
    weights = without_unused_statistics(state)
    config = _config(weights)
    if config is None or (config.kind == "batch" and config.biased):
        return False
    return holds(lambda: ResnetTranslator(config), weights)


def is_blurred(state: StateDict) -> bool:
    """Whether the weights bring blur-pool kernels, as CUT's do."""
    return any(key.endswith(".filt") for key in state)


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    weights = without_unused_statistics(state)
    config = _config(weights)
    assert config is not None, "only called where _matches"
    served = config
    if config.kind == "batch" and settings["norm_statistics"] == "picture":
        served, weights = replace(config, kind="picture"), without_statistics(weights)
    found: dict[str, Scalar] = {**_hyperparameters(config), "dropout": config.dropout}
    if is_blurred(state):
        found |= {"no_antialias": not config.blurred_halving, "no_antialias_up": config.doubling != "blur"}
    return coloured(generator(served, weights, found), int(settings["size"]))


def _hyperparameters(config: ResnetConfig) -> dict[str, Scalar]:
    counts = {"input_nc": config.inputs, "output_nc": config.outputs, "ngf": config.width, "n_blocks": config.blocks}
    return {**counts, "norm": config.kind}


def generator(config: ResnetConfig, weights: StateDict, hyperparameters: Mapping[str, Scalar]) -> Generator:
    """The generator of a config whose images are in [-1, 1] on both sides."""
    return Generator(
        network=load(ResnetTranslator(config), weights),
        task=Task.IMAGE_TO_IMAGE,
        hyperparameters=hyperparameters,
        channels=config.outputs,
        output_range=(-1.0, 1.0),
        max_batch_size=4,
        input_range=(-1.0, 1.0),
        input_channels=config.inputs,
        multiple_px=2**config.halvings,
        least_px=2 ** (config.halvings + 1),  # the blocks reflect a border of one pixel
    )


def _renamed(state: StateDict) -> StateDict:
    """PyTorch-GAN's block names as junyanz has them."""
    return {key.replace(".block.", ".conv_block."): tensor for key, tensor in state.items()}


def _nearest_config(state: StateDict) -> ResnetConfig | None:
    if not block_indices(state, name=".block.") or block_indices(state):
        return None
    config = _config(_renamed(state))
    return replace(config, doubling="nearest") if config else None


def _matches_nearest(state: StateDict) -> bool:
    config = _nearest_config(state)
    return config is not None and config.kind == "instance" and holds(lambda: ResnetTranslator(config), _renamed(state))


def _build_nearest(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    config = _nearest_config(state)
    assert config is not None, "only called where _matches_nearest"
    padding = int(settings["padding"]) or config.inputs
    if padding != PYTORCH_GAN_PADDING:
        raise ArchitectureError(
            f"padded by {padding}, as the repository pads {padding}-channel images, what comes out has another size "
            "than what goes in; if yours pads by 3: --set padding=3"
        )
    return generator(config, _renamed(state), {**_hyperparameters(config), "padding": padding})


ARCHITECTURE = Architecture(
    name="resnet",
    reference="junyanz/pytorch-CycleGAN-and-pix2pix ResnetGenerator",
    matches=lambda state: not is_blurred(state) and _matches(state),
    build=_build,
    settings={"norm_statistics": NORM_STATISTICS, "size": SIZE},
    relative=describe,
)
CUT = Architecture(
    name="cut",
    reference="taesungp/contrastive-unpaired-translation ResnetGenerator",
    matches=lambda state: is_blurred(state) and _matches(state),
    build=_build,
    settings={"norm_statistics": NORM_STATISTICS, "size": SIZE},
    relative=describe,
)
CYCLEGAN = Architecture(
    name="cyclegan",
    reference="eriklindernoren/PyTorch-GAN cyclegan",
    matches=_matches_nearest,
    build=_build_nearest,
    settings={"padding": Setting(0, "reflected border of the 7x7 convs; 0: as many pixels as channels, as there")},
    relative=describe,
)
