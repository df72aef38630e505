"""Residual translators of junyanz, CUT and PyTorch-GAN."""

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.cases.unet import call_without_eval
from tests.models.references.pytorch_gan_translators import GeneratorResNet
from tests.models.references.resnet_translator import ResnetGenerator


def _found(blocks: int, norm: str, dropout: bool = False, inputs: int = 3, outputs: int = 3) -> dict[str, Scalar]:
    counts = {"input_nc": inputs, "output_nc": outputs, "ngf": 4, "n_blocks": blocks}
    return {**counts, "norm": norm, "dropout": dropout}


def _cut(norm: str, down: bool, up: bool, dropout: bool = False, graph: bool = False) -> Case:
    return Case(
        "cut",
        lambda: ResnetGenerator(3, 3, 4, 2, norm, dropout, antialias_down=down, antialias_up=up),
        {**_found(2, norm, dropout), "no_antialias": not down, "no_antialias_up": not up},
        (2, 24, 32, 3),
        graph=graph,
    )


CASES = {
    "resnet": Case("resnet", lambda: ResnetGenerator(3, 3, 4, 9, "instance"), _found(9, "instance"), (2, 24, 32, 3)),
    "resnet-6-batch-dropout": Case(
        "resnet",
        lambda: ResnetGenerator(3, 1, 4, 6, "batch", dropout=True),
        _found(6, "batch", dropout=True, outputs=1),
        (2, 24, 32, 1),
    ),
    "resnet-batch": Case(
        "resnet",
        lambda: ResnetGenerator(1, 3, 4, 2, "batch"),
        _found(2, "batch", inputs=1),
        (2, 24, 32, 3),
        graph=True,
    ),
    "resnet-without-eval": Case(
        "resnet",
        lambda: ResnetGenerator(3, 3, 4, 2, "batch"),
        _found(2, "batch"),
        (2, 24, 32, 3),
        call=call_without_eval,
        overrides={"norm_statistics": "picture"},
    ),
    "resnet-no-norm": Case(
        "resnet",
        lambda: ResnetGenerator(3, 3, 4, 1, "none", dropout=True),
        _found(1, "none", True),
        (2, 24, 32, 3),
    ),
    "resnet-instance-tracked": Case(
        "resnet",
        lambda: ResnetGenerator(3, 3, 4, 2, "instance", dropout=True, tracks=True),
        _found(2, "instance", dropout=True),
        (2, 24, 32, 3),
    ),
    "resnet-4-channels": Case(
        "resnet",
        lambda: ResnetGenerator(4, 3, 4, 1, "instance"),
        _found(1, "instance", inputs=4),
        (2, 24, 32, 3),
        arch="resnet",
        ambiguous_with=("pix2pixhd",),
    ),
    "cut": _cut("instance", down=True, up=True),
    "cut-no-antialias": _cut("batch", down=False, up=True),
    "cut-no-antialias-up": _cut("instance", down=True, up=False, dropout=True),
    "cut-no-norm": _cut("none", down=True, up=True, graph=True),
    "cyclegan": Case(
        "cyclegan",
        lambda: GeneratorResNet(3, 4, 9, padding=3),
        {"input_nc": 3, "output_nc": 3, "ngf": 4, "n_blocks": 9, "norm": "instance", "padding": 3},
        (2, 24, 32, 3),
    ),
    "cyclegan-grey": Case(
        "cyclegan",
        lambda: GeneratorResNet(1, 4, 2, padding=3),
        {"input_nc": 1, "output_nc": 1, "ngf": 4, "n_blocks": 2, "norm": "instance", "padding": 3},
        (2, 24, 32, 1),
        overrides={"padding": "3"},
        graph=True,
    ),
}
