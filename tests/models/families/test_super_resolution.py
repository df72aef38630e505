"""Upscalers: what only their users can say, how far they see, and files that are nearly theirs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.architecture import ArchitectureError
from models.catalogue import assumed, build, detect
from models.checkpoints.read import read
from tests.models.cases.base import Case, ready
from tests.models.references import esrgan, plksr, span, srresnet, srvgg, swinir

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SEEING: dict[str, tuple[Callable[[], nn.Module], dict[str, str], int]] = {
    "basicsr-x4": (lambda: esrgan.BasicSr(1, 4, 2, 2, 4), {}, 34),
    "basicsr-x2": (lambda: esrgan.BasicSr(1, 4, 2, 2, 2), {}, 68),
    "basicsr-x1": (lambda: esrgan.BasicSr(1, 4, 2, 1, 1), {}, 76),
    "kair-x2": (lambda: esrgan.Kair(1, 4, 2, 1, 2), {}, 19),
    "esrgan-x1": (lambda: esrgan.OldEsrgan(1, 4, 2, 1, ()), {}, 19),
    "esrgan-x3": (lambda: esrgan.OldEsrgan(1, 4, 2, 1, (3,)), {"factor": "3"}, 18),
    "esrgan-x8": (lambda: esrgan.OldEsrgan(1, 4, 2, 1, (2, 2, 2)), {}, 19),
    "esrgan-pytorch-gan": (lambda: esrgan.PytorchGan(4, 1, 2), {}, 19),
    "leftthomas-x2": (lambda: srresnet.Leftthomas(4, 1), {}, 18),
    "leftthomas-x4": (lambda: srresnet.Leftthomas(4, 2), {}, 18),
    "lornatang-x8": (lambda: srresnet.Lornatang(4, 1, 3, 1), {}, 10),
    "span-x2": (lambda: span.Span(1, 4, 2, norm=False), {}, 21),
    "plksr-x2": (lambda: plksr.Plksr(4, 2, 2, 7), {}, 12),
    "srvgg-x3": (lambda: srvgg.SrvggCompact(1, 4, 3, 3, "prelu"), {}, 5),
    "msrresnet-x2": (lambda: srresnet.MsrResNet(4, 2, 2), {}, 7),
    "msrresnet-x3": (lambda: srresnet.MsrResNet(4, 2, 3), {}, 7),
    "msrresnet-x4": (lambda: srresnet.MsrResNet(4, 2, 4), {}, 7),
}


def seen_from(network: nn.Module, image: Tensor, row: int) -> Tensor:
    """Rows of the image in that one row of the image out depends on."""
    (gradient,) = torch.autograd.grad(network(image)[..., row, :].sum(), image)
    return gradient[0].abs().sum(dim=(0, 2)).nonzero()[:, 0]


@pytest.mark.parametrize("name", SEEING)
def test_the_receptive_field_is_how_far_a_pixel_sees(name: str) -> None:
    reference, overrides, radius_px = SEEING[name]
    network = reference()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.001, 0.01)  # all paths add up, so that none vanishes by chance
    generator = build(network.state_dict(), overrides=overrides)[1]
    tile = generator.tile
    assert tile is not None
    step, scale = tile.multiple_px, generator.scale
    middle = -(-(radius_px + 4) // step) * step
    image = torch.full((1, generator.channels, 2 * middle + step, step), 0.1, dtype=torch.float64, requires_grad=True)
    furthest = 0
    for row in range(middle * scale, (middle + step) * scale):
        distances = seen_from(generator.network.double(), image, row) - row // scale
        furthest = max(furthest, int(distances.abs().max()))
    assert furthest == radius_px == tile.receptive_field_px


@pytest.mark.parametrize(("blocks", "overlap_px", "size_px"), [(6, 32, 240), (23, 48, 272)])
def test_deep_networks_have_tiles_that_overlap_by_more(blocks: int, overlap_px: int, size_px: int) -> None:
    tile = build(esrgan.BasicSr(3, 4, 2, blocks, 4).state_dict())[1].tile
    assert tile is not None
    assert (tile.overlap_px, tile.size_px) == (overlap_px, size_px)


class Patches(nn.Module):
    """PyTorch-GAN's discriminator of srgan and esrgan."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, 1, 1), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*layers, nn.Conv2d(8, 1, 3, 1, 1))


class Vgg(nn.Module):
    """Lornatang's and aladdinpersson's: convs, then linear layers."""

    def __init__(self, first: str) -> None:
        super().__init__()
        self.add_module(first, nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 8, 3, 2, 1)))
        self.classifier = nn.Sequential(nn.Linear(8 * 36, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))


class Numbered(nn.Module):
    """aitorzip's: conv1 to conv9 and bn2 to bn8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1)
        for index in range(2, 9):
            self.add_module(f"conv{index}", nn.Conv2d(8, 8, 3, 1, 1))
            self.add_module(f"bn{index}", nn.BatchNorm2d(8))
        self.conv9 = nn.Conv2d(8, 1, 1)


class UNet(nn.Module):
    """Real-ESRGAN's: conv0 to conv9, spectrally normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 8, 3, 1, 1)
        for index in range(1, 9):
            conv = nn.Conv2d(8, 8, 3, 1, 1, bias=False)
            self.add_module(f"conv{index}", nn.utils.spectral_norm(conv))
        self.conv9 = nn.Conv2d(8, 1, 3, 1, 1)


class Net(nn.Module):
    """leftthomas's: convs down to one number."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.AdaptiveAvgPool2d(1)]
        self.net = nn.Sequential(*layers, nn.Conv2d(8, 16, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 1, 1))


@pytest.mark.parametrize(
    "make",
    [Patches, lambda: Vgg("features"), lambda: Vgg("blocks"), Numbered, UNet, Net],
    ids=lambda make: make.__name__,
)
def test_their_discriminators_are_no_generators(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(ArchitectureError, match=r"no known generator|not the generator"):
        detect(make().state_dict())


def test_one_upsampling_conv_may_mean_x3_and_two_may_not() -> None:
    once, twice = (esrgan.OldEsrgan(3, 4, 2, 1, factors).state_dict() for factors in ((3,), (2, 2)))
    assert build(once)[1].scale == 2
    assert build(once, overrides={"factor": "3"})[1].scale == 3
    with pytest.raises(ArchitectureError, match="factor=3: only files with one upsampling step"):
        build(twice, overrides={"factor": "3"})


def test_old_names_with_an_unshuffled_input_are_read_too() -> None:
    state = esrgan.BasicSr(3, 4, 2, 1, 2).state_dict()
    old = dict(esrgan.OldEsrgan(3, 4, 2, 1, (2, 2)).state_dict())
    old["model.0.weight"] = state["conv_first.weight"]
    generator = build(old)[1]
    assert (generator.scale, generator.tile and generator.tile.multiple_px) == (2, 2)


def test_imagenet_units_are_bounds_of_each_channel() -> None:
    generator = build(esrgan.PytorchGan(4, 1, 2).state_dict())[1]
    low = tuple((0 - mean) / std for mean, std in zip(MEAN, STD, strict=True))
    high = tuple((1 - mean) / std for mean, std in zip(MEAN, STD, strict=True))
    assert generator.input_range == generator.output_range == (low, high)


def test_what_tanh_means_is_the_users_choice() -> None:
    state = srresnet.PytorchGan(4, 1).state_dict()
    shown, meant = build(state)[1], build(state, overrides={"output": "imagenet"})[1]
    assert shown.output_range == (-1.0, 1.0)
    assert meant.output_range == meant.input_range == shown.input_range


def test_epsilon_is_the_repositorys_unless_it_is_said() -> None:
    state = srresnet.PytorchGan(4, 1).state_dict()
    image = torch.rand(1, 3, 6, 5)
    usual, said = build(state)[1], build(state, overrides={"eps": "1e-5"})[1]
    assert (usual.hyperparameters["eps"], said.hyperparameters["eps"]) == (0.8, 1e-5)
    assert not torch.allclose(usual.network(image), said.network(image))


def test_a_compiled_average_is_taken_from_a_training_file(tmp_path: Path) -> None:
    plain, average = (srresnet.Lornatang(4, 1, 1).state_dict() for _ in range(2))
    averaged = {f"_orig_mod.module.{key}": tensor for key, tensor in average.items()}
    saved = {
        "epoch": 3,
        "psnr": 28.5,
        "state_dict": {f"_orig_mod.{key}": tensor for key, tensor in plain.items()},
        "ema_state_dict": {"_orig_mod.n_averaged": torch.tensor(7), **averaged},
        "optimizer": {"state": {}, "param_groups": []},
    }
    torch.save(saved, tmp_path / "g_best.pth.tar")
    state = read(tmp_path / "g_best.pth.tar").state
    assert build(state)[1].hyperparameters["layout"] == "lornatang"
    assert torch.equal(state["conv3.weight"], average["conv3.weight"])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_half_precision_files_are_read_as_float32(tmp_path: Path, suffix: str) -> None:
    network = esrgan.OldEsrgan(3, 4, 2, 1, (2, 2)).half()
    path = tmp_path / f"4x_small{suffix}"
    if suffix == ".pth":
        torch.save({"params_ema": network.state_dict()}, path)
    else:
        save_file(dict(network.state_dict()), path)
    found = read(path)
    image = torch.rand(1, 3, 6, 5)
    torch.testing.assert_close(build(found.state)[1].network(image), network.float()(image))
    assert found.dtype == "float16"


def test_the_shift_of_span_is_only_set_where_there_is_one() -> None:
    plain, shifted, grey = (
        span.Span(*sizes).state_dict() for sizes in ((3, 4, 2, False), (3, 4, 2, True), (1, 4, 2, True))
    )
    assert build(shifted, overrides={"img_range": "1"})[1].hyperparameters["norm"] is True
    with pytest.raises(ArchitectureError, match="img_range=1: the file has `no_norm`"):
        build(plain, overrides={"img_range": "1"})
    with pytest.raises(ArchitectureError, match=r"takes 1 channel\(s\) and has no `no_norm`"):
        build(grey)


def test_a_chain_of_span_without_one_of_its_convs_is_no_span() -> None:
    state = {key: value for key, value in span.Span(3, 4, 2, False).state_dict().items() if "c2_r.conv.1" not in key}
    with pytest.raises(ArchitectureError, match="no known generator: like span but for its shapes"):
        detect(state)


def test_of_plksr_only_what_means_something_is_assumed() -> None:
    group, layer = (build(plksr.RealPlksr(8, 1, 2, 5, layer_norm).state_dict())[1] for layer_norm in (False, True))
    assert assumed("plksr", group, {}, {}) == {"norm_groups": 4, "eps": 1e-5}
    assert assumed("plksr", layer, {}, {}) == {"eps": 1e-6}


def test_plksr_with_the_statistics_of_the_whole_image_is_not_run_in_tiles() -> None:
    group, layer = (
        build(plksr.RealPlksr(8, 28, 2, 17, layer_norm).state_dict())[1].tile for layer_norm in (False, True)
    )
    assert group is None
    assert layer is not None
    assert (layer.receptive_field_px, layer.overlap_px) == (310, 64)


def test_groups_that_do_not_divide_the_channels_and_dilated_kernels_are_refused() -> None:
    state = plksr.RealPlksr(8, 1, 2, 5).state_dict()
    with pytest.raises(ArchitectureError, match="norm_groups=3: must divide the 8 channels"):
        build(state, overrides={"norm_groups": "3"})
    with pytest.raises(ArchitectureError, match="norm_groups=2: the network has no GroupNorm"):
        build(plksr.RealPlksr(8, 1, 2, 5, True).state_dict(), overrides={"norm_groups": "2"})
    dilated = {key.replace("lk.conv.", "lk.convs.0."): value for key, value in state.items()}
    with pytest.raises(ArchitectureError, match="dilated ones; no file tells the dilations"):
        detect(dilated)


def test_windows_of_7_px_are_of_networks_for_a_range_of_255_unless_it_is_said() -> None:
    state = swinir.SwinIr("", 1, 1, w=7).state_dict()
    assert build(state)[1].hyperparameters["img_range"] == 255.0
    assert build(state, overrides={"img_range": "1"})[1].hyperparameters["img_range"] == 1.0


def test_a_swinir_of_one_size_of_image_is_refused() -> None:
    state = {**swinir.SwinIr("", 1).state_dict(), "absolute_pos_embed": torch.zeros(1, 1024, 12)}
    with pytest.raises(ArchitectureError, match="absolute_pos_embed, which is of one size of image only"):
        detect(state)


@pytest.mark.parametrize(
    ("upsampler", "scale", "fold"),
    [("nearest+conv", 4, 1), ("pixelshuffle", 2, 1), ("", 1, 1), ("pixelshuffledirect", 4, 2)],
)
def test_tiles_of_window_attention_equal_the_whole_within_the_receptive_field(
    upsampler: str, scale: int, fold: int
) -> None:
    network = ready(
        Case("swinir", lambda: swinir.SwinIr(upsampler, scale, depths=(2,), heads=(2,), fold=fold), {}, (0, 0, 0, 0))
    )
    generator = build(network.state_dict())[1]
    tile = generator.tile
    assert tile is not None
    assert (tile.multiple_px, tile.overlap_px, generator.scale) == (4 * fold, tile.receptive_field_px, scale // fold)
    step, margin = tile.multiple_px, -(-tile.receptive_field_px // tile.multiple_px) * tile.multiple_px
    side = 2 * margin + 6 * step
    image = torch.rand(1, 3, step, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = generator.network(image)
        torch.testing.assert_close(whole, network(image))
        cut = generator.network(image[..., 2 * step : side - 2 * step])
    inner = slice(tile.overlap_px * generator.scale, -tile.overlap_px * generator.scale)
    torch.testing.assert_close(
        cut[..., inner], whole[..., 2 * step * generator.scale : -2 * step * generator.scale][..., inner]
    )
