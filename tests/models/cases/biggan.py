"""BigGAN in the variants that ajbrock/BigGAN-PyTorch can train."""

import torch
from torch import nn

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.references.biggan import CustomNorm, Generator, call

WIDE = (64, 64, 32, 16, 8, 4)  # 128 px


def facts(**changed: Scalar) -> dict[str, Scalar]:
    usual: dict[str, Scalar] = {
        "model": "BigGAN",
        "resolution": 32,
        "G_ch": 4,
        "dim_z": 20,
        "n_classes": 5,
        "shared_dim": 6,
        "hier": True,
        "G_attn": "0",
    }
    return usual | changed


def accumulate(network: nn.Module) -> None:
    """As after standing statistics were taken over 8 batches."""
    for module in network.modules():
        if isinstance(module, CustomNorm):
            module.accumulating = True
            module.accumulation_counter.fill_(8.0)
            module.stored_mean.mul_(8.0)
            module.stored_var.mul_(8.0)


def not_accumulated(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, CustomNorm):
            module.accumulation_counter.zero_()


def small(**variant: object) -> Generator:
    torch.manual_seed(0)
    return Generator((16, 16, 16, 16), 20, 5, **({"embedding": 6, "hier": True} | variant))  # type: ignore[arg-type]


CASES = {
    "biggan": Case(
        "biggan",
        lambda: Generator(WIDE, 24, 5, 6, hier=True, attention=(1, 3)),
        facts(resolution=128, dim_z=24, G_attn="16_64"),
        (2, 128, 128, 3),
        call=call,
        tolerance=1e-3,
    ),
    "biggan-no-hier": Case(
        "biggan",
        lambda: small(hier=False, eps=0.03),
        facts(hier=False),
        (2, 32, 32, 3),
        call=call,
        overrides={"BN_eps": "0.03"},
        graph=True,
    ),
    "biggan-own-embeddings": Case(
        "biggan",
        lambda: small(embedding=0, hier=False, attention=(1,)),
        facts(hier=False, shared_dim=0, G_attn="16"),
        (2, 32, 32, 3),
        call=call,
    ),
    "biggan-no-spectral-norm": Case(
        "biggan", lambda: small(spectral=False, attention=(2,)), facts(G_attn="32"), (2, 32, 32, 3), call=call
    ),
    "biggan-custom-norm": Case(
        "biggan", lambda: small(norms="custom"), facts(), (2, 32, 32, 3), call=call, prepare=not_accumulated
    ),
    "biggan-standing-statistics": Case(
        "biggan", lambda: small(norms="custom"), facts(), (2, 32, 32, 3), call=call, prepare=accumulate
    ),
    "biggan-cross-replica": Case("biggan", lambda: small(norms="replica"), facts(), (2, 32, 32, 3), call=call),
    "biggan-cross-replica-own-embeddings": Case(
        "biggan",
        lambda: small(norms="replica", embedding=0, hier=False),
        facts(hier=False, shared_dim=0),
        (2, 32, 32, 3),
        call=call,
    ),
    "biggan-pytorch-deep": Case(
        "biggan",
        lambda: Generator((32, 16, 8, 8), 10, 5, 6, hier=True, attention=(1,), deep=True),
        facts(model="BigGANdeep", G_ch=8, dim_z=10, G_attn="16"),
        (2, 32, 32, 3),
        call=call,
    ),
}
