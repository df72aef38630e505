"""PLKSR with each of its mixers, RealPLKSR with each norm and each way of enlarging."""

from collections.abc import Callable

from torch import nn

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.references.plksr import Plksr, RealPlksr


def case(
    layout: str, make: Callable[[], nn.Module], scale: int, kernel: int = 5, norm: str = "none",
    dysample: bool = False, channels: int = 3, blocks: int = 2, groups: int = 4, graph: bool = False,
) -> Case:  # fmt: skip
    found: dict[str, Scalar] = {
        "layout": layout,
        "dim": 16,
        "n_blocks": blocks,
        "upscaling_factor": scale,
        "kernel_size": kernel,
        "norm": norm,
        "dysample": dysample,
        "channels": channels,
    }
    overrides = {"norm_groups": str(groups)} if groups != 4 else {}
    shape = (2, 24 * scale, 32 * scale, channels)
    return Case("plksr", make, found, shape, overrides=overrides, graph=graph, tolerance=5e-4)


def real(
    scale: int, layer_norm: bool = False, dysample: bool = False, gate: bool = True, groups: int = 4,
    channels: int = 3, graph: bool = False,
) -> Case:  # fmt: skip
    def make() -> nn.Module:
        return RealPlksr(16, 2, scale, 5, layer_norm, dysample, gate, groups, channels)

    norm = "layer" if layer_norm else "group"
    return case("realplksr", make, scale, 5, norm, dysample, channels, 2, groups, graph)


CASES = {
    "realplksr-x4": real(4),
    "realplksr-x2-layer-norm": real(2, layer_norm=True),
    "realplksr-x4-dysample": real(4, layer_norm=True, dysample=True, graph=True),
    "realplksr-x3-dysample": real(3, dysample=True, groups=2),
    "realplksr-x1-dysample": real(1, dysample=True, gate=False),
    "realplksr-x2-grey": real(2, channels=1, gate=False),
    "plksr-x4": case("plksr", lambda: Plksr(16, 2, 4, 7), 4, 7, graph=True),
    "plksr-x2-iccm": case("plksr", lambda: Plksr(16, 3, 2, 5, (1, 3), gate=False), 2, blocks=3),
    "plksr-x2-dccm-rectangular": case("plksr", lambda: Plksr(16, 1, 2, 9, (3, 3), rectangular=True), 2, 9, blocks=1),
}
