"""PyTorch-StudioGAN's residual backbones."""

from torch import nn

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.references.spectral import unit_vectors
from tests.models.references.studiogan import Generator, call, call_uniform

WIDTHS = (16, 16, 16, 16)
SHAPE = (2, 32, 32, 3)


def facts(backbone: str, **changed: Scalar) -> dict[str, Scalar]:
    usual: dict[str, Scalar] = {
        "backbone": backbone,
        "img_size": 32,
        "z_dim": 12,
        "g_shared_dim": 0,
        "g_conv_dim": 4,
        "g_cond_mtd": "cBN",
        "num_classes": 5,
        "apply_g_sn": True,
        "attn_px": "0",
    }
    return usual | changed


CASES = {
    "studiogan": Case(
        "studiogan",
        lambda: Generator("big", (32, 16, 8, 4, 4), 20, 5, shared=6, attention=(1, 2)),
        facts("big_resnet", img_size=64, z_dim=20, g_shared_dim=6, g_conv_dim=2, attn_px="8_16"),
        (2, 64, 64, 3),
        call=call,
        prepare=unit_vectors,
    ),
    "studiogan-sagan": Case(
        "studiogan",
        lambda: Generator("resnet", WIDTHS, 12, 5, attention=(2,), activation=nn.LeakyReLU(0.1)),
        facts("resnet", attn_px="16"),
        SHAPE,
        call=call,
        config={"MODEL": {"backbone": "resnet", "g_act_fn": "Leaky_ReLU", "g_conv_dim": 4}},
        prepare=unit_vectors,
    ),
    "studiogan-unconditional": Case(
        "studiogan",
        lambda: Generator("resnet", WIDTHS, 12, spectral=False),
        facts("resnet", g_cond_mtd="W/O", num_classes=0, apply_g_sn=False),
        SHAPE,
        call=call_uniform,
        overrides={"z_prior": "uniform"},
        graph=True,
    ),
    "studiogan-big-unconditional": Case(
        "studiogan",
        lambda: Generator("big", WIDTHS, 12),
        facts("big_resnet", g_cond_mtd="W/O", num_classes=0),
        SHAPE,
        call=call,
        overrides={"backbone": "big_resnet"},
        prepare=unit_vectors,
    ),
    "studiogan-as-many-classes-as-numbers": Case(
        "studiogan",
        lambda: Generator("resnet", WIDTHS, 12, 12, spectral=False),
        facts("resnet", num_classes=12, apply_g_sn=False),
        SHAPE,
        call=call,
        config={"MODEL": {"backbone": "resnet"}},
    ),
    "studiogan-deep-legacy": Case(
        "studiogan",
        lambda: Generator("deep", (16, 16, 8, 8), 12, 5, shared=6, attention=(2,)),
        facts("big_resnet_deep_legacy", g_shared_dim=6, attn_px="16"),
        SHAPE,
        call=call,
        prepare=unit_vectors,
    ),
    "studiogan-deep-studiogan": Case(
        "studiogan",
        lambda: Generator("deep-projected", (16, 16, 8, 8), 12, 5, shared=6),
        facts("big_resnet_deep_studiogan", g_shared_dim=6),
        SHAPE,
        call=call,
        prepare=unit_vectors,
        graph=True,
    ),
}
