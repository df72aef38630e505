"""Generators that are multilayer perceptrons: Goodfellow et al., "Generative Adversarial Networks", 2014,
arXiv:1406.2661, and, with a label, Mirza, Osindero, "Conditional Generative Adversarial Nets", 2014, arXiv:1411.1784.

Reads the checkpoints of eriklindernoren/PyTorch-GAN (gan, wgan, wgan_gp, wgan_div, softmax_gan, bgan, cgan), of the
tutorials that `mlp_layouts.py` lists, and any other plain sequence of linear layers if the user says its
activation. Differences: none in what is computed; the image's shape is read from the last layer, whose size no
repository stores as a shape: C * s * s with C 1 or 3, anything else is a setting.
"""

import math
from collections.abc import Mapping

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.basic.entrances import join
from models.families.basic.latent_code import Conditioned, Distribution, LatentCode, Section
from models.families.basic.mlp_layouts import (
    UNKNOWN,
    ZNXLWM_CGAN,
    RepositoryDefaults,
    Stack,
    numbered,
    read_stack,
    recognise,
)
from models.families.basic.perceptron import RANGES, MlpGenerator
from models.state_dict import load

LABELS = "label_emb.weight"
SETTINGS = {
    "img_size": Setting(0, "height and width in pixels; 0: from the last layer's size"),
    "channels": Setting(0, "channels of the image; 0: 1 or 3, whichever gives a square"),
    "activation": Setting(
        "auto", "of the hidden layers; auto: as the repository has it", ("auto", "relu", "leaky_relu")
    ),
    "slope": Setting(0.0, "of the leaky ReLU; 0: as the repository has it, else 0.2"),
    "output": Setting("auto", "activation of the last layer; auto: as the repository has it", ("auto", *RANGES)),
    "eps": Setting(0.0, "BatchNorm's epsilon; 0: as the repository has it (PyTorch-GAN 0.8)"),
}
CONDITIONAL_SETTINGS = {
    **SETTINGS,
    "label": Setting(
        "auto", "where the label's embedding enters; auto: as the repository has it", ("auto", "first", "last")
    ),
}
_BRANCHES = ("fc1_1", "fc1_2")


def _gives_image(stack: Stack | None) -> bool:
    """Whether it ends in an image: at least 8x8, larger than what goes in."""
    return stack is not None and stack.widths[-1] >= 64 and stack.widths[-1] > stack.widths[0]


def _matches(state: StateDict) -> bool:
    return _gives_image(read_stack(numbered(state)))


def _relative(state: StateDict) -> str | None:
    weights = [tensor for key, tensor in state.items() if key.endswith("weight") and not key.startswith("label_")]
    linear = [weight for weight in weights if weight.ndim == 2]
    if linear and all(weight.ndim <= 2 for weight in weights) and len(linear[-1]) == 1:
        return "a perceptron that ends in one output, a discriminator or critic, not the generator"
    return None


def _image_shape(values: int, settings: Mapping[str, Scalar]) -> tuple[int, int, int]:
    """(C, H, W) of a last layer with that many outputs."""
    size, channels = int(settings["img_size"]), int(settings["channels"])
    if size and channels:
        if channels * size * size != values:
            raise ArchitectureError(f"{values} outputs are not {channels} channels of {size}x{size}")
        return channels, size, size
    counts = (channels,) if channels else (values // size**2,) if size else (1, 3)
    for count in counts:
        side = math.isqrt(values // count) if count > 0 else 0
        if count * side * side == values and (not size or side == size):
            return count, side, side
    given = "".join(f" with {name} {value}" for name, value in (("img_size", size), ("channels", channels)) if value)
    raise ArchitectureError(
        f"{values} outputs are no square image{given or ' of 1 or 3 channels'}: "
        "say --set img_size=PIXELS --set channels=COUNT"
    )


def _activation(layout: RepositoryDefaults, settings: Mapping[str, Scalar]) -> tuple[float, str]:
    """(slope of the leaky ReLU, 0 for a ReLU; output), the user's word before the repository's."""
    activation, slope, output = str(settings["activation"]), float(settings["slope"]), str(settings["output"])
    if activation == "auto" and not slope and layout.slope is None:
        raise ArchitectureError(
            "the hidden layers' activation is in no tensor: say --set activation=relu or leaky_relu"
        )
    if output == "auto" and layout is UNKNOWN:
        raise ArchitectureError(f"the last activation is in no tensor: say --set output={', '.join(RANGES)}")
    if activation == "relu":
        slope = 0.0
    elif activation == "leaky_relu" or slope:
        slope = slope or layout.slope or 0.2
    else:
        slope = layout.slope or 0.0
    return slope, layout.output if output == "auto" else output


def _body(
    stack: Stack, state: Mapping[str, torch.Tensor], layout: RepositoryDefaults, settings: Mapping[str, Scalar]
) -> tuple[MlpGenerator, str]:
    slope, output = _activation(layout, settings)
    eps = float(settings["eps"]) or layout.eps
    network = MlpGenerator(stack.widths, _image_shape(stack.widths[-1], settings), stack.norms, eps, slope, output)
    load(network, stack.renamed(state))
    return network, output


def _generator(
    body: MlpGenerator, network: nn.Module, latent: int, classes: int, stack: Stack, output: str
) -> Generator:
    channels, size_px, _ = body.image_shape
    return Generator(
        network=network.eval(),
        task=Task.CLASS_CONDITIONAL if classes else Task.UNCONDITIONAL,
        hyperparameters={
            "latent": latent,
            "hidden": "-".join(map(str, stack.widths[1:-1])),
            **({"classes": classes} if classes else {}),
            "channels": channels,
            "image_size_px": size_px,
        },
        channels=channels,
        output_range=RANGES[output],
        max_batch_size=64,
        image_size_px=(size_px, size_px),
        latent_size=latent,
        classes=classes,
    )


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    state = numbered(state)
    stack = read_stack(state)
    assert stack is not None, "only called where _matches"
    body, output = _body(stack, state, recognise(stack, labelled=False), settings)
    return _generator(body, body, stack.widths[0], 0, stack, output)


def _labelled(state: StateDict) -> Stack | None:
    rows = state.get(LABELS)
    stack = read_stack({key: tensor for key, tensor in state.items() if key != LABELS})
    fits = rows is not None and rows.ndim == 2 and stack is not None and stack.widths[0] > rows.shape[1]
    return stack if fits and _gives_image(stack) else None


def _branched(state: StateDict) -> dict[str, torch.Tensor] | None:
    """One stack from znxlwm's two entrances, latent first; None if the file is not his."""
    joined = join(state, *_BRANCHES, "fc1")
    names = {f"fc{layer}{norm}": f"fc.{3 * layer - 3 + bool(norm)}" for layer in range(1, 5) for norm in ("", "_bn")}
    parts = {key: key.rpartition(".") for key in joined or {}}
    if joined is None or any(name not in names for name, _, _ in parts.values()):
        return None
    return {f"{names[name]}.{what}": joined[key] for key, (name, _, what) in parts.items()}


def _conditional_matches(state: StateDict) -> bool:
    branched = _branched(state)
    return _labelled(state) is not None or (branched is not None and _gives_image(read_stack(branched)))


def _conditional_build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    if joined := _branched(state):
        latent, classes = (state[f"{name}.weight"].shape[1] for name in _BRANCHES)
        stack = read_stack(joined)
        assert stack is not None, "only called where _conditional_matches"
        sections = [Section(Distribution.UNIT, latent), Section(Distribution.LABEL, classes)]
        code = LatentCode(sections, torch.eye(classes))
        body, output = _body(stack, joined, ZNXLWM_CGAN, settings)
        return _generator(body, Conditioned(code, body), latent, classes, stack, output)
    stack = _labelled(state)
    assert stack is not None, "only called where _conditional_matches"
    layout = recognise(stack, labelled=True)
    rows = state[LABELS]
    latent = stack.widths[0] - rows.shape[1]
    sections = [Section(Distribution.LABEL, rows.shape[1]), Section(Distribution.NORMAL, latent)]
    if not _label_first(layout, settings):
        sections.reverse()
    body, output = _body(stack, state, layout, settings)
    return _generator(body, Conditioned(LatentCode(sections, rows), body), latent, len(rows), stack, output)


def _label_first(layout: RepositoryDefaults, settings: Mapping[str, Scalar]) -> bool:
    said = str(settings["label"])
    if said == "auto" and layout is UNKNOWN:
        raise ArchitectureError(
            "whether the label or the latent comes first is in no tensor: say --set label=first or last"
        )
    return layout.label_first if said == "auto" else said == "first"


MLP = Architecture(
    name="mlp",
    reference="eriklindernoren/PyTorch-GAN gan, wgan_gp; yunjey/pytorch-tutorial; and other perceptrons",
    matches=_matches,
    build=_build,
    settings=SETTINGS,
    relative=_relative,
)
CGAN_MLP = Architecture(
    name="cgan-mlp",
    reference="eriklindernoren/PyTorch-GAN cgan; arturml/mnist-cgan; znxlwm cGAN",
    matches=_conditional_matches,
    build=_conditional_build,
    settings=CONDITIONAL_SETTINGS,
)
