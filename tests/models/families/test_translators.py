"""What translators' weights leave open, what lies next to them, and how label maps go in."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.architecture import ArchitectureError
from models.catalogue import ARCHITECTURES, build, detect
from models.families.translation.label_maps import ImageWithInstances, LabelMap
from models.families.translation.translator_layers import BlurDown, BlurUp
from tests.models.references.pix2pixhd import GlobalGenerator, edges, encode_input
from tests.models.references.pytorch_gan_translators import GeneratorResNet
from tests.models.references.resnet_translator import Downsample, ResnetGenerator, Upsample
from tests.models.references.unet import UnetGenerator


def convs(*layers: tuple[int, nn.Module]) -> dict[str, Tensor]:
    """The state dict of a Sequential `model` with these layers at these places."""
    return {f"model.{place}.{key}": tensor for place, layer in layers for key, tensor in layer.state_dict().items()}


def patch_gan(last_kernel: int = 4) -> dict[str, Tensor]:
    return convs(
        (0, nn.Conv2d(6, 4, 4)), (2, nn.Conv2d(4, 8, 4)), (3, nn.BatchNorm2d(8)), (5, nn.Conv2d(8, 1, last_kernel))
    )


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.replace("model.", prefix, 1): tensor for key, tensor in state.items()}


RELATIVES: dict[str, tuple[Callable[[], dict[str, Tensor]], str]] = {
    "junyanz-patch": (patch_gan, "PatchGAN discriminator"),
    "pytorch-gan-patch": (
        lambda: convs((0, nn.Conv2d(3, 4, 4)), (2, nn.Conv2d(4, 8, 4)), (12, nn.Conv2d(8, 1, 4, bias=False))),
        "discriminator",
    ),
    "pixel": (
        lambda: prefixed("net.", convs((0, nn.Conv2d(6, 4, 1)), (2, nn.Conv2d(4, 8, 1)), (5, nn.Conv2d(8, 1, 1)))),
        "pixel-wise discriminator",
    ),
    "multi-scale": (lambda: prefixed("layer0.", patch_gan()), "multi-scale discriminator"),
    "multi-scale-features": (
        lambda: {f"scale1_layer{k}.0.weight": torch.zeros(1 if k == 2 else 8, 4, 4, 4) for k in range(3)},
        "multi-scale discriminator",
    ),
    "encoder": (
        lambda: convs(
            (1, nn.Conv2d(3, 4, 7)), (4, nn.Conv2d(4, 8, 3)), (7, nn.ConvTranspose2d(8, 4, 3)), (11, nn.Conv2d(4, 3, 7))
        ),
        "feature encoder",
    ),
    "sampler": (lambda: {"mlp_0.0.weight": torch.zeros(8, 4), "mlp_0.0.bias": torch.zeros(8)}, "sampler of patches"),
}


@pytest.mark.parametrize("name", RELATIVES)
def test_what_lies_next_to_a_generator_is_named(name: str) -> None:
    make, said = RELATIVES[name]
    with pytest.raises(ArchitectureError, match=said):
        detect(make())


@pytest.mark.parametrize("arch", ["unet", "resnet", "cut", "cyclegan", "pix2pix", "pix2pixhd"])
def test_a_discriminator_is_refused_by_name_too(arch: str) -> None:
    with pytest.raises(ArchitectureError, match=f"--arch {arch}: .*PatchGAN discriminator"):
        build(patch_gan(), arch)


def test_an_image_classifier_is_no_discriminator() -> None:
    state = {"layer1.0.conv1.weight": torch.zeros(8, 8, 3, 3), "fc.weight": torch.zeros(10, 8)}
    assert all(entry.relative(state) is None for entry in ARCHITECTURES.values())


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (20, ["20 labels (--set input=labels)", "19 labels and instance edges (--set input=labels+instances)"]),
        (4, ["3 labels and instance edges", "an image and instance edges (--set input=rgb+instances)"]),
    ],
)
def test_channels_that_can_be_read_in_several_ways_are_refused_with_the_ways(
    channels: int, said: Sequence[str]
) -> None:
    state = GlobalGenerator(channels, 3, 2, 3, 1, "instance").state_dict()
    with pytest.raises(ArchitectureError) as refused:
        build(state)
    assert all(way in str(refused.value) for way in (f"{channels} input channels", *said))


def test_channels_that_cannot_be_what_was_said_are_refused() -> None:
    state = GlobalGenerator(36, 3, 2, 3, 1, "instance").state_dict()
    with pytest.raises(ArchitectureError, match=re.escape("input=rgb+instances needs 4 input channels")):
        build(state, overrides={"input": "rgb+instances"})


def test_where_two_repositories_name_the_same_network_alike_both_are_named() -> None:
    state = GlobalGenerator(36, 3, 2, 2, 1, "instance").state_dict()
    with pytest.raises(ArchitectureError, match="fit resnet, pix2pixhd; say which with --arch"):
        build(state)


def test_a_picture_of_one_channel_padded_by_one_is_refused() -> None:
    state = GeneratorResNet(1, 2, 1, padding=1).state_dict()
    with pytest.raises(ArchitectureError, match="--set padding=3"):
        build(state)


@pytest.mark.parametrize("drop", ["model.1.weight", "model.10.conv_block.5.weight", "model.18.bias"])
def test_a_translator_with_a_tensor_missing_is_none(drop: str) -> None:
    state = ResnetGenerator(3, 3, 2, 1, "instance").state_dict()
    del state[drop]
    assert not any(entry.matches(state) for entry in ARCHITECTURES.values())


def test_a_place_beyond_all_sense_costs_nothing() -> None:
    state = GlobalGenerator(3, 3, 2, 3, 1, "instance").state_dict()
    far = {key.replace("model.13.", "model.900000000."): tensor for key, tensor in state.items()}
    assert not any(entry.matches(far) for entry in ARCHITECTURES.values())


def test_running_statistics_without_a_weight_change_nothing() -> None:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    state = UnetGenerator(3, 3, 5, 2, "instance", tracks=True).state_dict()
    plain = {key: tensor for key, tensor in state.items() if "running" not in key and "num_batches" not in key}
    state |= {key: torch.full_like(tensor, 7) for key, tensor in state.items() if "running" in key}
    torch.testing.assert_close(build(state)[1].network(image), build(plain)[1].network(image), rtol=0, atol=0)


def label_map(seed: int = 0) -> Tensor:
    """(1, 3, 12, 16) float32: blocks of labels 0..4 and of instances up to 65,535."""
    random = np.random.RandomState(seed)
    labels = random.randint(0, 5, (3, 4)).repeat(4, 0).repeat(4, 1)
    instances = random.randint(0, 65536, (6, 4)).repeat(2, 0).repeat(4, 1)
    return torch.from_numpy(np.stack([labels, instances // 256, instances % 256])[None]).float()


def test_a_label_map_goes_in_as_the_repository_encodes_it() -> None:
    image = label_map()
    instances = image[:, 1:2] * 256 + image[:, 2:3]
    torch.testing.assert_close(LabelMap(5, True)(image), encode_input(image[:, :1], instances, 5), rtol=0, atol=0)
    torch.testing.assert_close(LabelMap(5, False)(image), encode_input(image[:, :1], None, 5), rtol=0, atol=0)


def test_a_grey_label_map_has_its_edges_at_the_borders_of_labels() -> None:
    grey = label_map()[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(LabelMap(5, True)(grey)[:, 5:], edges(grey[:, :1]), rtol=0, atol=0)


def test_a_label_beyond_the_last_is_none() -> None:
    assert LabelMap(5, False)(torch.full((1, 3, 4, 4), 5.0)).abs().max() == 0


def test_a_picture_with_instances_keeps_its_colours_and_gains_edges() -> None:
    image = torch.cat([torch.full((1, 3, 12, 16), 255.0), label_map()[:, :1]], dim=1)
    encoded = ImageWithInstances()(image)
    assert encoded[:, :3].min() == encoded[:, :3].max() == 1
    torch.testing.assert_close(encoded[:, 3:], edges(image[:, 3:]), rtol=0, atol=0)


@pytest.mark.parametrize(("ours", "theirs"), [(BlurDown, Downsample), (BlurUp, Upsample)])
def test_blur_pools_are_the_repositorys_at_even_and_odd_sizes(
    ours: Callable[[int], nn.Module], theirs: Callable[[int], nn.Module]
) -> None:
    maps = torch.randn(2, 3, 7, 10, generator=torch.Generator().manual_seed(0))
    found, expected = ours(3), theirs(3)
    torch.testing.assert_close(found.state_dict()["filt"], expected.state_dict()["filt"], rtol=0, atol=0)
    torch.testing.assert_close(found(maps), expected(maps), rtol=0, atol=1e-6)
