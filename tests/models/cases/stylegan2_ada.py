"""StyleGAN2-ADA: its three architectures, label, channels, truncation with cutoff, noise modes, clamped activations."""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.references.nvidia_mapping import generate, natural
from tests.models.references.nvidia_stylegan2 import Generator


def hyperparameters(**changed: Scalar) -> Mapping[str, Scalar]:
    return {
        "z_dim": 6,
        "c_dim": 0,
        "w_dim": 5,
        "mapping_layers": 3,
        "img_resolution": 16,
        "img_channels": 3,
        "architecture": "skip",
        "noise": "const",
        **changed,
    }


def calling(
    cutoff: int | None = None, noise_mode: str = "const"
) -> Callable[[nn.Module, Mapping[str, Tensor]], Tensor]:
    return partial(generate, cutoff=cutoff, noise_mode=noise_mode)


CASES = {
    "stylegan2-ada": Case(
        "stylegan2-ada",
        lambda: Generator(6, 0, 5, 16, 3, 3, (8, 6, 4), conv_clamp=256),
        hyperparameters(),
        (2, 16, 16, 3),
        call=calling(),
        prepare=natural,
        tolerance=1e-3,
    ),
    "stylegan2-ada-labels-cutoff": Case(
        "stylegan2-ada",
        lambda: Generator(6, 4, 5, 16, 1, 2, (8, 6, 4)),
        hyperparameters(c_dim=4, mapping_layers=2, img_channels=1),
        (2, 16, 16, 1),
        call=calling(cutoff=3),
        overrides={"truncation_cutoff": "3", "conv_clamp": "0"},
        prepare=natural,
        tolerance=1e-3,
        graph=True,
    ),
    "stylegan2-ada-resnet": Case(
        "stylegan2-ada",
        lambda: Generator(6, 0, 5, 32, 3, 8, (8, 8, 6, 4), architecture="resnet", conv_clamp=0.5),
        hyperparameters(architecture="resnet", img_resolution=32, mapping_layers=8),
        (2, 32, 32, 3),
        call=calling(),
        config={"synthesis.b4.conv1.conv_clamp": 0.5, "mapping.fc0.bias_gain": 0.01},
        prepare=natural,
        tolerance=1e-3,
    ),
    "stylegan2-ada-orig-rgba": Case(
        "stylegan2-ada",
        lambda: Generator(6, 0, 5, 16, 4, 1, (8, 6, 4), architecture="orig", conv_clamp=256),
        hyperparameters(architecture="orig", img_channels=4, mapping_layers=1, noise="none"),
        (2, 16, 16, 4),
        call=calling(noise_mode="none"),
        overrides={"noise": "none"},
        prepare=natural,
        tolerance=1e-3,
    ),
    "stylegan2-ada-noise-input": Case(
        "stylegan2-ada",
        lambda: Generator(6, 3, 5, 16, 3, 3, (8, 6, 4), conv_clamp=256),
        hyperparameters(c_dim=3, noise="input"),
        (2, 16, 16, 3),
        call=calling(noise_mode="random"),
        overrides={"noise": "input"},
        prepare=natural,
        tolerance=1e-3,
        graph=True,
    ),
    "stylegan2-ada-without-noise": Case(
        "stylegan2-ada",
        lambda: Generator(6, 0, 5, 8, 3, 2, (6, 4), conv_clamp=256, use_noise=False),
        hyperparameters(img_resolution=8, mapping_layers=2, noise="none"),
        (2, 8, 8, 3),
        call=calling(),
        prepare=natural,
        tolerance=1e-3,
    ),
}
