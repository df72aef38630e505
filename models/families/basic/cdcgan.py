"""Conditional DCGAN with an entrance each for latent and label: Mirza, Osindero, "Conditional Generative Adversarial
Nets", 2014, arXiv:1411.1784, on the network of DCGAN (Radford, Metz, Chintala, 2015, arXiv:1511.06434).

Reads the checkpoints of znxlwm/pytorch-MNIST-CelebA-cGAN-cDCGAN: keys `deconv1_1`, `deconv1_2`, `deconv2` ... with
`_bn`. Differences: the two entrances are one layer whose weight is block-diagonal, which computes the same. The
script's MNIST network (four steps) has ReLU, its CelebA network (five) leaky ReLU 0.2.
"""

from collections.abc import Mapping

import torch

from artifact.spec import Scalar
from models.architecture import Architecture, Generator, Setting, StateDict
from models.families.basic.dcgan import EPS, as_generator
from models.families.basic.dcgan_layouts import DcganConfig, read
from models.families.basic.entrances import join
from models.families.basic.latent_code import Conditioned, Distribution, LatentCode, Section
from models.families.basic.transposed import TransposedGenerator
from models.state_dict import load

LATENT, LABEL = "deconv1_1", "deconv1_2"
SLOPES = {4: 0.0, 5: 0.2}
SETTINGS = {
    "eps": EPS,
    "activation": Setting(
        "auto",
        "of the layers between; auto: relu where there are four, else leaky_relu",
        ("auto", "relu", "leaky_relu"),
    ),
}


def _joined(state: StateDict) -> DcganConfig | None:
    """One generator whose first layer is both entrances; None if the file has not both."""
    joined = join(state, LATENT, LABEL, "deconv1")
    return read(joined) if joined else None


def _matches(state: StateDict) -> bool:
    return _joined(state) is not None


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    config = _joined(state)
    assert config is not None, "only called where _matches"
    latent, classes = state[f"{LATENT}.weight"].shape[0], state[f"{LABEL}.weight"].shape[0]
    slope = {"auto": SLOPES.get(len(config.steps), 0.2), "relu": 0.0, "leaky_relu": 0.2}[str(settings["activation"])]
    body = TransposedGenerator(config.steps, float(settings["eps"]), slope)
    load(body, config.state)
    code = LatentCode([Section(Distribution.NORMAL, latent), Section(Distribution.LABEL, classes)], torch.eye(classes))
    return as_generator(Conditioned(code, body), config, latent, classes, "tanh", {})


ARCHITECTURE = Architecture(
    name="cdcgan",
    reference="znxlwm/pytorch-MNIST-CelebA-cGAN-cDCGAN",
    matches=_matches,
    build=_build,
    settings=SETTINGS,
)
