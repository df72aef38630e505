"""StyleGAN3: configurations t and r, labels, truncation with cutoff, and layers of a design of their own."""

from functools import partial

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.references.nvidia_mapping import generate
from tests.models.references.nvidia_stylegan3 import Generator, prepare


def hyperparameters(**changed: Scalar) -> dict[str, Scalar]:
    return {
        "z_dim": 6,
        "c_dim": 0,
        "w_dim": 5,
        "mapping_layers": 2,
        "img_resolution": 16,
        "img_channels": 3,
        "num_layers": 5,
        "config": "t",
        **changed,
    }


CASES = {
    "stylegan3": Case(
        "stylegan3",
        lambda: Generator(6, 0, 5, 16, 3, synthesis={"channel_base": 64, "channel_max": 8, "num_layers": 5}),
        hyperparameters(),
        (2, 16, 16, 3),
        call=generate,
        prepare=prepare,
        tolerance=1e-3,
    ),
    "stylegan3-r": Case(
        "stylegan3",
        lambda: Generator(
            6,
            3,
            5,
            32,
            3,
            synthesis={
                "channel_base": 128,
                "channel_max": 8,
                "num_layers": 3,
                "conv_kernel": 1,
                "use_radial_filters": True,
            },
        ),
        hyperparameters(c_dim=3, img_resolution=32, num_layers=3, config="r"),
        (2, 32, 32, 3),
        call=partial(generate, cutoff=3),
        overrides={"truncation_cutoff": "3"},
        prepare=prepare,
        tolerance=1e-3,
        graph=True,
    ),
    "stylegan3-designed": Case(
        "stylegan3",
        lambda: Generator(
            6,
            0,
            5,
            16,
            1,
            num_layers=3,
            synthesis={
                "channel_base": 48,
                "channel_max": 6,
                "num_layers": 3,
                "num_critical": 1,
                "first_cutoff": 1.5,
                "first_stopband": 3.0,
                "margin_size": 4,
                "output_scale": 2.0,
                "filter_size": 4,
                "lrelu_upsampling": 4,
                "conv_clamp": 0.7,
            },
        ),
        hyperparameters(img_channels=1, mapping_layers=3, num_layers=3),
        (2, 16, 16, 1),
        call=generate,
        config={
            "num_critical": 1,
            "first_cutoff": 1.5,
            "first_stopband": 3.0,
            "margin_size": 4,
            "output_scale": 2.0,
            "lrelu_upsampling": 4,
            "conv_clamp": 0.7,
        },
        prepare=prepare,
        tolerance=1e-3,
        graph=True,
    ),
}
