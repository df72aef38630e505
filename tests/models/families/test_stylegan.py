"""NVIDIA's generators beyond the shared cases: the published fourteen layers, levels as NVIDIA's scripts write them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.graph.parity import run_torch
from export.graph.pixels import wrap
from export.graph.samples import sample_inputs
from models.architecture import ArchitectureError, Generator
from models.catalogue import build
from models.checkpoints import read as checkpoint
from tests.models.cases.base import trained
from tests.models.checkpoints.nvidia_files import made_by, write_snapshot
from tests.models.references import nvidia_stylegan2, nvidia_stylegan3
from tests.models.references.nvidia_mapping import generate, natural

T: dict[str, object] = {"channel_base": 64, "channel_max": 6}
R: dict[str, object] = {**T, "conv_kernel": 1, "use_radial_filters": True}


def alias_free(side_px: int = 16, c_dim: int = 0, synthesis: Mapping[str, object] = T) -> nn.Module:
    network = nvidia_stylegan3.Generator(6, c_dim, 5, side_px, 3, synthesis=dict(synthesis))
    network.load_state_dict(trained(network))
    nvidia_stylegan3.prepare(network)
    arguments = {"z_dim": 6, "c_dim": c_dim, "w_dim": 5, "img_resolution": side_px, "img_channels": 3}
    return made_by(network.eval().requires_grad_(False), **arguments, mapping_kwargs={"num_layers": 2}, **synthesis)


def skip(architecture: str = "skip") -> nn.Module:
    network = nvidia_stylegan2.Generator(6, 0, 5, 16, 3, 2, (8, 6, 4), architecture=architecture, conv_clamp=256)
    network.load_state_dict(trained(network))
    natural(network)
    return network.eval().requires_grad_(False)


def largest_difference(generator: Generator, network: nn.Module) -> float:
    arrays = sample_inputs(generator, "float32", (0, 1, 2))
    expected = generate(network, {key: torch.from_numpy(array) for key, array in arrays.items()}).numpy()
    return float(np.abs(run_torch(generator.network, arrays) - expected).max())


@pytest.mark.parametrize(("config", "synthesis", "side_px"), [("t", T, 16), ("r", R, 16), ("t", T, 64)])
def test_the_published_fourteen_layers_agree_with_the_reference(
    config: str, synthesis: Mapping[str, object], side_px: int
) -> None:
    network = alias_free(side_px, synthesis=synthesis)
    _, generator = build(network.state_dict())
    assert generator.hyperparameters["config"] == config
    assert generator.w_shape == (16, 5)
    assert largest_difference(generator, network) < 1e-3


def test_a_snapshot_says_the_design_of_its_layers(tmp_path: Path) -> None:
    design = {**T, "num_layers": 4, "num_critical": 1, "margin_size": 6, "conv_clamp": None, "output_scale": 0.3}
    network = alias_free(c_dim=2, synthesis=design)
    found = checkpoint.read(write_snapshot(tmp_path / "a.pkl", {"G_ema": network}, tmp_path / "probe"))
    name, generator = build(found.state, config=found.config)
    assert name == "stylegan3"
    assert largest_difference(generator, network) < 1e-3
    with pytest.raises(ArchitectureError, match="--set margin_size"):
        build(found.state)
    assert not (tmp_path / "probe").exists()


def test_levels_are_those_of_the_training_repository() -> None:
    """It cuts `x * 127.5 + 128` to 0..255 and drops what is behind the point."""
    network = skip()
    _, generator = build(network.state_dict())
    arrays = sample_inputs(generator, "uint8", (0, 2, 4))
    image = generate(network, {key: torch.from_numpy(array) for key, array in arrays.items()})
    expected = (image.permute(0, 2, 3, 1) * 127.5 + 128).clamp(0, 255).to(torch.uint8).numpy()
    found = run_torch(wrap(generator, "uint8"), arrays)
    differing = np.abs(found.astype(int) - expected)
    assert differing.max() <= 1
    assert (differing > 0).mean() < 0.002, "only where rounding errors cross a level"


def test_a_given_w_is_used_as_it_is_whatever_latent_and_truncation() -> None:
    _, generator = build(skip().state_dict())
    arrays = sample_inputs(generator, "float32", (1, 3))  # odd seeds: from w
    other = arrays | {"latent": arrays["latent"][::-1].copy(), "truncation_psi": np.zeros(2, np.float32)}
    np.testing.assert_array_equal(run_torch(generator.network, arrays), run_torch(generator.network, other))


def test_truncation_of_nought_draws_the_average_whatever_latent() -> None:
    _, generator = build(skip().state_dict())
    arrays = sample_inputs(generator, "float32", (0, 2)) | {"truncation_psi": np.zeros(2, np.float32)}
    found = run_torch(generator.network, arrays)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def changed(state: Mapping[str, Tensor], key: str, tensor: Tensor | None) -> dict[str, Tensor]:
    found = {**state}
    found.pop(key)
    return found if tensor is None else found | {key: tensor}


@pytest.mark.parametrize(
    ("network", "key", "tensor", "sentence"),
    [
        (skip, "synthesis.b8.conv0.weight", torch.zeros(6, 7, 3, 3), r"synthesis.b8.conv0.weight is \(6, 7, 3, 3\)"),
        (skip, "synthesis.b8.conv0.bias", torch.zeros(1), r"synthesis.b8.conv0.bias is \(1,\), expected \(6,\)"),
        (skip, "synthesis.b8.conv1.noise_const", torch.zeros(4, 4), "noise_const"),
        (skip, "mapping.fc1.weight", torch.zeros(5, 4), "mapping.fc1.weight"),
        (skip, "synthesis.b16.torgb.affine.bias", None, "1 missing tensors, first 'synthesis.b16.torgb.affine.bias'"),
        (alias_free, "synthesis.input.freqs", torch.zeros(3, 2), "synthesis.input.freqs"),
        (alias_free, "synthesis.L3_36_6.down_filter", None, "its filters have 12 and 1 taps"),
        (alias_free, "synthesis.L3_36_6.bias", torch.zeros(1), "synthesis.L3_36_6.bias"),
    ],
)
def test_a_tensor_of_another_shape_is_named(network: object, key: str, tensor: Tensor | None, sentence: str) -> None:
    assert callable(network)
    with pytest.raises(ArchitectureError, match=sentence):
        build(changed(network().state_dict(), key, tensor))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"truncation_cutoff": "7"}, "truncation_cutoff=7: must be 0 to 6"),
        ({"noise": "random"}, "must be one of const, none, input"),
    ],
)
def test_settings_out_of_range_are_named(overrides: Mapping[str, str], sentence: str) -> None:
    with pytest.raises(ArchitectureError, match=sentence):
        build(skip().state_dict(), overrides=overrides)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"num_critical": "14"}, "num_critical=14: must be 1 to 13"),
        ({"first_cutoff": "nan"}, "must be above 0"),
        ({"lrelu_upsampling": "0"}, "must be above 0"),
        ({"margin_size": "-3"}, "--set margin_size"),
    ],
)
def test_designs_that_cannot_be_are_named(overrides: Mapping[str, str], sentence: str) -> None:
    with pytest.raises(ArchitectureError, match=sentence):
        build(alias_free().state_dict(), overrides=overrides)


def test_noise_cannot_be_an_input_of_a_network_without_noise() -> None:
    network = nvidia_stylegan2.Generator(6, 0, 5, 8, 3, 2, (6, 4), use_noise=False)
    with pytest.raises(ArchitectureError, match="noise=input: the generator was trained without noise"):
        build(trained(network), overrides={"noise": "input"})


def test_another_activation_is_refused() -> None:
    for key in ("mapping.fc0.activation", "synthesis.b4.conv1.activation"):
        with pytest.raises(ArchitectureError, match=r"activation relu; lrelu is served"):
            build(skip().state_dict(), config={key: "relu"})


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (("b8.fromrgb.weight", "b4.out.weight"), "a StyleGAN2 discriminator"),
        (("synthesis.init.init.0.weight_orig",), "projected-gan's own FastGAN generator .*, which is not served"),
    ],
)
def test_relatives_are_named(keys: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ArchitectureError, match=sentence):
        build(dict.fromkeys(keys, torch.zeros(4, 4)))
