"""Global generators and local enhancers of NVIDIA/pix2pixHD."""

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.cases.unet import call_without_eval
from tests.models.references.pix2pixhd import GlobalGenerator, LocalEnhancer


def _found(
    inputs: int, labels: int, instances: bool, halvings: int = 3, blocks: int = 2, norm: str = "instance"
) -> dict[str, Scalar]:
    read = {"label_nc": labels, "no_instance": not instances}
    counts = {"n_downsample_global": halvings, "n_blocks_global": blocks, "n_local_enhancers": 0}
    return {"input_nc": inputs, "output_nc": 3, "ngf": 4, **counts, "norm": norm, **read}


SIZES_PX = ((32, 48), (64, 32))
CASES = {
    "pix2pixhd": Case(
        "pix2pixhd",
        lambda: GlobalGenerator(36, 3, 4, 3, 2, "instance"),
        _found(36, 35, instances=True),
        (2, 32, 48, 3),
        sizes_px=SIZES_PX,
    ),
    "pix2pixhd-rgb-4": Case(
        "pix2pixhd",
        lambda: GlobalGenerator(3, 3, 4, 4, 1, "instance"),
        _found(3, 0, instances=False, halvings=4, blocks=1),
        (2, 32, 48, 3),
        sizes_px=SIZES_PX,
    ),
    "pix2pixhd-batch": Case(
        "pix2pixhd",
        lambda: GlobalGenerator(3, 3, 4, 2, 2, "batch"),
        _found(3, 0, instances=False, halvings=2, norm="batch"),
        (2, 32, 48, 3),
        sizes_px=SIZES_PX,
    ),
    "pix2pixhd-without-eval": Case(
        "pix2pixhd",
        lambda: GlobalGenerator(36, 3, 4, 3, 1, "batch"),
        _found(36, 35, instances=True, blocks=1, norm="batch"),
        (2, 32, 48, 3),
        call=call_without_eval,
        overrides={"norm_statistics": "picture"},
        sizes_px=SIZES_PX,
    ),
    "pix2pixhd-labels": Case(
        "pix2pixhd",
        lambda: GlobalGenerator(20, 3, 4, 3, 1, "instance"),
        _found(20, 20, instances=False, blocks=1),
        (2, 32, 48, 3),
        overrides={"input": "labels"},
        sizes_px=SIZES_PX,
    ),
    "pix2pixhd-labels-instances-2": Case(
        "pix2pixhd",
        lambda: GlobalGenerator(12, 3, 4, 2, 1, "instance"),
        _found(12, 11, instances=True, halvings=2, blocks=1),
        (2, 32, 48, 3),
        overrides={"input": "labels+instances"},
        arch="pix2pixhd",
        ambiguous_with=("resnet",),
        sizes_px=SIZES_PX,
    ),
    "pix2pixhd-rgb-instances": Case(
        "pix2pixhd",
        lambda: GlobalGenerator(4, 3, 4, 3, 1, "instance"),
        _found(4, 0, instances=True, blocks=1),
        (2, 32, 48, 3),
        overrides={"input": "rgb+instances"},
        sizes_px=SIZES_PX,
        graph=True,
    ),
    "pix2pixhd-local": Case(
        "pix2pixhd",
        lambda: LocalEnhancer(36, 3, 4, 2, 2, "instance", local_blocks=3),
        {**_found(36, 35, instances=True, halvings=2), "n_local_enhancers": 1, "n_blocks_local": 3},
        (2, 32, 48, 3),
        sizes_px=SIZES_PX,
    ),
    "pix2pixhd-local-2-batch": Case(
        "pix2pixhd",
        lambda: LocalEnhancer(3, 3, 4, 1, 1, "batch", enhancers=2, local_blocks=2),
        {
            **_found(3, 0, instances=False, halvings=1, blocks=1, norm="batch"),
            "n_local_enhancers": 2,
            "n_blocks_local": 2,
        },
        (2, 32, 48, 3),
        sizes_px=SIZES_PX,
        graph=True,
    ),
}
