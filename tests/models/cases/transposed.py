"""DCGAN-like generators, as `dcgan`, `cdcgan`, `fc_dcgan` and `infogan` of models.families.basic read them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tests.models.cases.base import Case
from tests.models.references import dcgan


def uniform(normal: Tensor) -> Tensor:
    """torch.rand's distribution, from the same standard normal numbers that the graph takes."""
    sampled: Tensor = torch.special.ndtr(normal)
    return sampled


def one_hot(label: Tensor, classes: int) -> Tensor:
    return nn.functional.one_hot(label, classes).float()


def call_pixel(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """(N, Z, 1, 1) in, as transposed convolutions take it."""
    image: Tensor = network(arrays["latent"][:, :, None, None])
    return image


def call_labelled(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """The one-hot label behind the noise (Coursera's conditional GAN)."""
    image: Tensor = network(torch.cat([arrays["latent"], one_hot(arrays["label"], 4)], 1))
    return image


def call_two_entrances(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    label = one_hot(arrays["label"], 3)[:, :, None, None]
    image: Tensor = network(arrays["latent"][:, :, None, None], label)
    return image


def call_collection(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """torch.rand latents; CGAN takes (latent, label), infoGAN (latent, continuous code, label)."""
    parts = [uniform(arrays["latent"][:, :62])]
    if arrays["latent"].shape[1] > 62:
        parts.append(2 * uniform(arrays["latent"][:, 62:]) - 1)
    if "label" in arrays:
        parts.append(one_hot(arrays["label"], 10))
    image: Tensor = network(*parts)
    return image


def call_info(noise: int, categories: int) -> Callable[[nn.Module, Mapping[str, Tensor]], Tensor]:
    """Natsu6767's noise_sample: noise, then a one-hot per category, then the code."""

    def call(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
        latent = arrays["latent"]
        chosen = [one_hot(arrays["label"], 10)]
        for index in range(categories - 1):
            start = noise + 10 * index
            chosen.append(one_hot(latent[:, start : start + 10].argmax(1), 10))
        code = 2 * uniform(latent[:, noise + 10 * (categories - 1) :]) - 1
        image: Tensor = network(torch.cat([latent[:, :noise], *chosen, code], 1)[:, :, None, None])
        return image

    return call


def louder(network: nn.Module) -> None:
    """Weights of layers without BatchNorm times four, or the images are almost grey."""
    for name, weights in network.named_parameters():
        if name.startswith(("tconv3", "tconv4", "tconv5")):
            weights.data *= 4


def dotted(network: nn.Module) -> Mapping[str, Tensor]:
    """The file as versions of torch wrote it that still took dots in names; without the counts they did not keep."""
    state = network.state_dict().items()
    return {key.replace(":", "."): tensor for key, tensor in state if not key.endswith("num_batches_tracked")}


def sorted_by_name(network: nn.Module) -> Mapping[str, Tensor]:
    """The file as safetensors gives it back."""
    return dict(sorted(network.state_dict().items()))


CASES = {
    "dcgan-natsu": Case(
        "dcgan",
        lambda: dcgan.Natsu(6, 4, 3),
        {"nz": 6, "ngf": 4, "nc": 3, "image_size_px": 64},
        (2, 64, 64, 3),
        call=call_pixel,
    ),
    "dcgan-wasserstein": Case(
        "dcgan",
        lambda: dcgan.Wasserstein(32, 6, 3, 8, extra=2),
        {"nz": 6, "ngf": 8, "nc": 3, "image_size_px": 32},
        (2, 32, 32, 3),
        call=call_pixel,
        file=sorted_by_name,
    ),
    "dcgan-wasserstein-dots": Case(
        "dcgan",
        lambda: dcgan.Wasserstein(32, 6, 1, 8, extra=1),
        {"nz": 6, "ngf": 8, "nc": 1, "image_size_px": 32},
        (2, 32, 32, 1),
        call=call_pixel,
        file=dotted,
    ),
    "dcgan-wasserstein-without-norm": Case(
        "dcgan",
        lambda: dcgan.Wasserstein(16, 6, 3, 8, extra=1, norm=False),
        {"nz": 6, "ngf": 8, "nc": 3, "image_size_px": 16},
        (2, 16, 16, 3),
        call=call_pixel,
    ),
    "dcgan-zeleni": Case(
        "dcgan",
        lambda: dcgan.Zeleni(6, 8, 1),
        {"nz": 6, "ngf": 8, "nc": 1, "image_size_px": 32},
        (2, 32, 32, 1),
        call=call_pixel,
    ),
    "dcgan-mnist-28": Case(
        "dcgan",
        lambda: dcgan.Mnist28(1, 6, 8),
        {"nz": 6, "ngf": 8, "nc": 1, "image_size_px": 28},
        (2, 28, 28, 1),
        call=call_pixel,
    ),
    "dcgan-blocks": Case(
        "dcgan",
        lambda: dcgan.Blocks(6, 3, 2),
        {"nz": 6, "ngf": 4, "nc": 3, "image_size_px": 64},
        (2, 64, 64, 3),
        call=call_pixel,
    ),
    "dcgan-coursera": Case(
        "dcgan",
        lambda: dcgan.Coursera(6, 8),
        {"nz": 6, "ngf": 8, "nc": 1, "image_size_px": 28},
        (2, 28, 28, 1),
    ),
    "dcgan-coursera-labels": Case(
        "dcgan",
        lambda: dcgan.Coursera(6 + 4, 8),
        {"nz": 6, "classes": 4, "ngf": 8, "nc": 1, "image_size_px": 28},
        (2, 28, 28, 1),
        call=call_labelled,
        overrides={"classes": "4"},
    ),
    "dcgan-deconv": Case(
        "dcgan",
        lambda: dcgan.Deconv(6, (32, 16, 8, 3)),
        {"nz": 6, "ngf": 8, "nc": 3, "image_size_px": 32},
        (2, 32, 32, 3),
        call=call_pixel,
    ),
    "cdcgan": Case(
        "cdcgan",
        lambda: dcgan.TwoEntrances(6, 3, (16, 8, 4, 1), slope=0.0),
        {"nz": 6, "classes": 3, "ngf": 4, "nc": 1, "image_size_px": 32},
        (2, 32, 32, 1),
        call=call_two_entrances,
        graph=True,
    ),
    "cdcgan-celeba": Case(
        "cdcgan",
        lambda: dcgan.TwoEntrances(6, 3, (16, 8, 8, 4, 3), slope=0.2),
        {"nz": 6, "classes": 3, "ngf": 4, "nc": 3, "image_size_px": 64},
        (2, 64, 64, 3),
        call=call_two_entrances,
    ),
    "fc-dcgan": Case(
        "fc-dcgan",
        lambda: dcgan.Collection(62, 16, 8, 1, 28),
        {"latent": 62, "code": 0, "classes": 0, "channels": 1, "image_size_px": 28},
        (2, 28, 28, 1),
        call=call_collection,
    ),
    "fc-dcgan-cgan": Case(
        "fc-dcgan",
        lambda: dcgan.Collection(72, 16, 8, 3, 32),
        {"latent": 62, "code": 0, "classes": 10, "channels": 3, "image_size_px": 32},
        (2, 32, 32, 3),
        call=call_collection,
        graph=True,
    ),
    "fc-dcgan-infogan": Case(
        "fc-dcgan",
        lambda: dcgan.Collection(74, 16, 8, 1, 28),
        {"latent": 62, "code": 2, "classes": 10, "channels": 1, "image_size_px": 28},
        (2, 28, 28, 1),
        call=call_collection,
    ),
    "infogan-natsu-mnist": Case(
        "infogan",
        lambda: dcgan.NatsuInfoMnist(8),
        {"nz": 64, "classes": 10, "ngf": 8, "nc": 1, "image_size_px": 28, "categories": 1, "code": 2},
        (2, 28, 28, 1),
        call=call_info(62, 1),
    ),
    "infogan-natsu-svhn": Case(
        "infogan",
        lambda: dcgan.NatsuInfoColour(168, 4),
        {"nz": 158, "classes": 10, "ngf": 4, "nc": 3, "image_size_px": 32, "categories": 4, "code": 4},
        (2, 32, 32, 3),
        call=call_info(124, 4),
        prepare=louder,
        graph=True,
    ),
    "infogan-natsu-celeba": Case(
        "infogan",
        lambda: dcgan.NatsuInfoColour(228, 4),
        {"nz": 218, "classes": 10, "ngf": 4, "nc": 3, "image_size_px": 32, "categories": 10, "code": 0},
        (2, 32, 32, 3),
        call=call_info(128, 10),
        prepare=louder,
    ),
}
