"""InfoGAN: Chen et al., "InfoGAN: Interpretable Representation Learning by Information Maximizing Generative
Adversarial Nets", 2016, arXiv:1606.03657.

Reads the checkpoints of eriklindernoren/PyTorch-GAN infogan and of Natsu6767/InfoGAN-PyTorch (MNIST, FashionMNIST,
SVHN, CelebA; wrapped in `netG`). The first layer takes noise, one-hot labels and a continuous code; the latent here is
noise, then whatever categories beyond the first there are, then the code, all standard normal: the graph makes the
code uniform in -1..1, and a further category is the place of the largest of its ten numbers.
Differences: none in what is computed. PyTorch-GAN saves the very keys of its dcgan, so that a first layer of 62 + 10 +
2 inputs may be either; any other size is taken for dcgan unless infogan is asked for.
"""

from collections.abc import Mapping

import torch

from artifact.spec import Scalar
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.basic import dcgan, upsampling
from models.families.basic.dcgan_layouts import DcganConfig
from models.families.basic.dcgan_layouts import read as read_stack
from models.families.basic.latent_code import Conditioned, Distribution, LatentCode, Section
from models.families.basic.transposed import TransposedGenerator
from models.state_dict import load

DEFAULT_INPUTS = 62 + 10 + 2
CATEGORY = 10
# Natsu6767: inputs of the first layer -> (noise, categories, code).
NATSU = {74: (62, 1, 2), 168: (124, 4, 4), 228: (128, 10, 0)}
SETTINGS = {
    "eps": upsampling.EPS,
    "classes": Setting(10, "labels (PyTorch-GAN's n_classes)"),
    "code": Setting(2, "length of the continuous code (PyTorch-GAN's code_dim)"),
}


def _layout(state: StateDict) -> upsampling.UpsamplingConfig | None:
    found = upsampling.read(state)
    return found if found and found.first_norm and upsampling.LABELS not in state else None


def _natsu(state: StateDict) -> DcganConfig | None:
    config = read_stack(state) if "tconv1.weight" in state else None
    known = config is not None and config.steps[0].kernel <= 2 and config.steps[0].before in NATSU
    return config if known else None


def _matches(state: StateDict) -> bool:
    layout = _layout(state)
    return _natsu(state) is not None or (layout is not None and layout.latent == DEFAULT_INPUTS)


def _accepts(state: StateDict) -> bool:
    return _natsu(state) is not None or _layout(state) is not None


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    if config := _natsu(state):
        return _build_natsu(config)
    layout = _layout(state)
    assert layout is not None, "only called where _accepts"
    classes, code = int(settings["classes"]), int(settings["code"])
    noise = layout.latent - classes - code
    if min(noise, classes) < 1 or code < 0:
        raise ArchitectureError(
            f"{layout.latent} inputs cannot hold {classes} labels, a code of {code} and noise: "
            "say --set classes=COUNT --set code=LENGTH"
        )
    sections = [Section(Distribution.NORMAL, noise), Section(Distribution.LABEL, classes)]
    sections += [Section(Distribution.SIGNED, code)] if code else []
    body = layout.build(state, float(settings["eps"]))
    network = Conditioned(LatentCode(sections, torch.eye(classes)), body)
    return upsampling.as_generator(network, layout, noise + code, classes)


def _build_natsu(config: DcganConfig) -> Generator:
    noise, categories, code = NATSU[config.steps[0].before]
    output = "sigmoid" if config.steps[0].kernel == 1 else "tanh"
    body = TransposedGenerator(config.steps, output=output)
    load(body, config.state)
    sections = [Section(Distribution.NORMAL, noise), Section(Distribution.LABEL, CATEGORY)]
    sections += [Section(Distribution.CHOICE, CATEGORY)] * (categories - 1)
    sections += [Section(Distribution.SIGNED, code)] if code else []
    rows = LatentCode(sections, torch.eye(CATEGORY))
    extra = {"categories": categories, "code": code}
    return dcgan.as_generator(Conditioned(rows, body), config, rows.latent_size, CATEGORY, output, extra)


ARCHITECTURE = Architecture(
    name="infogan",
    reference="eriklindernoren/PyTorch-GAN infogan; Natsu6767/InfoGAN-PyTorch",
    matches=_matches,
    build=_build,
    settings=SETTINGS,
    accepts=_accepts,
)
