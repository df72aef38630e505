"""ProGAN's layouts: akanimax/pro_gan_pytorch of three years, facebookresearch/pytorch_GAN_zoo."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.cases.transposed import one_hot
from tests.models.references.progan import Akanimax, Measured, Plain, Zoo


def facts(size_px: int, **changed: Scalar) -> dict[str, Scalar]:
    widths = {16: "8,8,6", 8: "8,8"}[size_px]
    return {"latent_size": 12, "num_channels": 3, "image_size_px": size_px, "widths": widths, **changed}


def labelled(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """The conditional training's input: the one-hot label, then the noise."""
    image: Tensor = network(torch.cat([one_hot(arrays["label"], 4), arrays["latent"]], 1))
    return image


def attributed(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """Two attributes of 2 and 3 values behind the noise."""
    label = arrays["label"]
    parts = [arrays["latent"], one_hot(label // 3, 2), one_hot(label % 3, 3)]
    image: Tensor = network(torch.cat(parts, 1))
    return image


def untrained(network: nn.Module) -> None:
    """The last stage as it was made: biases 0."""
    for name, bias in network.named_parameters():
        if name.endswith("bias") and name.startswith(("layers.2", "rgb_converters.2")):
            bias.data.zero_()


def without_module(network: nn.Module) -> Mapping[str, Tensor]:
    return {key.replace(".module", ""): value for key, value in network.state_dict().items()}


CONFIG = {
    "beside.config.lossCriterion": "MSE",
    "beside.config.alpha": 0.25,
    "beside.config.attribKeysOrder.look.order": 0,
    "beside.config.attribKeysOrder.look.values.length": 2,
    "beside.config.attribKeysOrder.cut.order": 1,
    "beside.config.attribKeysOrder.cut.values.length": 3,
}
CASES = {
    "progan": Case("progan", lambda: Akanimax(12, [8, 8, 6]), facts(16, layout="2020"), (2, 16, 16, 3)),
    "progan-grown-to-8": Case(
        "progan",
        lambda: Akanimax(12, [8, 8, 6], doublings=1),
        facts(8, layout="2020"),
        (2, 8, 8, 3),
        prepare=untrained,
    ),
    "progan-file-name": Case(
        "progan",
        lambda: Akanimax(12, [8, 8, 6], Plain, doublings=1),
        facts(8, layout="2020"),
        (2, 8, 8, 3),
        config={"file.name": "depth_3_epoch_5.bin", "beside.conf.use_eql": False},
    ),
    "progan-2019": Case(
        "progan",
        lambda: Akanimax(12, [8, 8, 6], first_apart=True),
        facts(16, layout="2019"),
        (2, 16, 16, 3),
    ),
    "progan-2018-labels": Case(
        "progan",
        lambda: Akanimax(12, [8, 8, 6], Measured, first_apart=True, doublings=1, normalise=False),
        facts(8, layout="2018", latent_size=8, classes=4),
        (2, 8, 8, 3),
        call=labelled,
        config={"file.name": "GAN_GEN_SHADOW_1.pth"},
        overrides={"classes": "4"},
        graph=True,
    ),
    "progan-zoo": Case("progan-zoo", lambda: Zoo(12, [8, 8, 6]), facts(16), (2, 16, 16, 3)),
    "progan-zoo-attributes": Case(
        "progan-zoo",
        lambda: Zoo(12, [8, 8, 6], alpha=0.25, tanh=True),
        facts(16, latent_size=7, classes=6, alpha=0.25),
        (2, 16, 16, 3),
        call=attributed,
        file=without_module,
        config=CONFIG,
        graph=True,
    ),
}
