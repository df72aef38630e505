"""docs/manifest.md and its JSON schema describe the manifests that `artifact.spec` writes and reads."""

import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import jsonschema
import pytest

from artifact.golden import FIGURES, Golden
from artifact.spec import (
    CriticSpec,
    JudgeSpec,
    Parity,
    Provenance,
    ShapeRange,
    Spec,
    SpecError,
    Task,
    TensorRTPlan,
    TensorSpec,
    Tile,
)
from tests.docs.pages import ROOT, read

SCHEMA = json.loads((ROOT / "docs" / "manifest.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SHA256 = "0123456789abcdef" * 4
PROFILE = {"image": ShapeRange((1, 4, 4, 3), (4, 128, 128, 3), (8, 128, 128, 3))}
PLAN = TensorRTPlan("rtx", "1.7.1", ("8.9",), "fp16", SHA256, (PROFILE,))
GENERATOR = Spec(
    task=Task.CLASS_CONDITIONAL, architecture="stylegan2", hyperparameters={"depth": 3, "gain": 1.5, "skip": True},
    tensors="uint8", precision="fp16", opset=18,
    inputs=(
        TensorSpec("latent", "FP32", (4,)), TensorSpec("label", "INT64", ()), TensorSpec("noise", "FP32", (7,)),
        TensorSpec("truncation_psi", "FP32", ()), TensorSpec("w", "FP32", (2, 4)), TensorSpec("w_given", "FP32", ()),
    ),
    outputs=(TensorSpec("image", "UINT8", (8, 8, 3)),), image_shape=(8, 8, 3),
    provenance=Provenance("netG.pth", "MIT", SHA256, {"torch": "2.9.0"}), parity=Parity(1.0, 0.5, (1, 5), (0, 1)),
    latent_size=4, labels=("cat", "dog"), noise_size=7, truncation_default=0.7, w_shape=(2, 4),
    files={"model.onnx": SHA256},
)  # fmt: skip
CRITIC = CriticSpec(
    "stylegan2", {"blocks": 1}, True, Provenance("netD.pth", "MIT", SHA256), Parity(1e-3, 0.0, (1,), (0,)), 256,
    ((-1.5, 0.0, 2.0), (-1.0, 0.5, 0.5)), (7, 8, 9),
)  # fmt: skip
UPSCALER = Spec(
    task=Task.SUPER_RESOLUTION, architecture="rrdb", hyperparameters={}, tensors="uint8", precision="fp32", opset=18,
    inputs=(TensorSpec("image", "UINT8", (-1, -1, 3)),), outputs=(TensorSpec("upscaled", "UINT8", (-1, -1, 3)),),
    image_shape=(0, 0, 3), provenance=Provenance("x4.pth", "BSD-3-Clause", SHA256), parity=Parity(1.0, 0.0, (1,), (0,)),
    scale=4, tile=Tile(128, 12, 2, 18, 1.0), multiple_px=2, least_px=4,
    plan=PLAN, files={"model.onnx": SHA256, "model.plan": SHA256},
)  # fmt: skip
GOLDEN = Golden(
    64, dict.fromkeys(FIGURES, ((0.5, 0.4, 1.0),)), dict.fromkeys(FIGURES, (0.1, 0.0, 0.2)),
    {"flat": 0.0, "black": 0.0, "saturated": 1.0, "duplicate": 0.0},
)  # fmt: skip
JUDGE = JudgeSpec(("cat", "dog"), 16, False, Provenance("judge.onnx", "MIT", SHA256))
SPECS = (
    replace(GENERATOR, golden=replace(GOLDEN, judged=((40, 24),), judge=SHA256), judge=JUDGE),
    UPSCALER,
    replace(GENERATOR, critic=CRITIC),
    replace(GENERATOR, plan=replace(PLAN, compute_capabilities=(), profiles=())),
)


def is_read(manifest: object) -> bool:
    """Whether the server would read it."""
    try:
        Spec.from_json(json.dumps(manifest))
    except SpecError:
        return False
    return True


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("spec", SPECS, ids=["generator", "upscaler", "critic", "portable plan"])
def test_what_is_written_fits_the_schema(spec: Spec) -> None:
    VALIDATOR.validate(json.loads(spec.to_json()))


@pytest.mark.parametrize(
    ("described", "by"),
    [
        (Spec, SCHEMA),
        *((kind, SCHEMA["$defs"][name]) for kind, name in (
            (TensorSpec, "tensor"), (Tile, "tile"), (Parity, "parity"), (Provenance, "provenance"),
            (TensorRTPlan, "plan"), (Golden, "golden"), (ShapeRange, "shape_range"), (CriticSpec, "critic"),
            (JudgeSpec, "judge"),
        )),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else "",
)  # fmt: skip
def test_the_schema_has_the_fields_of_the_code_and_no_other(described: type, by: dict[str, Any]) -> None:
    assert set(by["properties"]) - {"schema_version"} == {field.name for field in fields(described)}
    assert by["additionalProperties"] is False


@pytest.mark.parametrize("field", SCHEMA["properties"])
def test_the_schema_requires_the_fields_that_the_reader_requires(field: str) -> None:
    manifest = json.loads(UPSCALER.to_json())
    del manifest[field]
    assert VALIDATOR.is_valid(manifest) == is_read(manifest) == (field not in SCHEMA["required"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda manifest: manifest.update(schema_version=3),
        lambda manifest: manifest.update(unknown=1),
        lambda manifest: manifest.update(task="segmentation"),
        lambda manifest: manifest.update(image_shape=[8, 8]),
        lambda manifest: manifest.update(truncation_range=[0]),
        lambda manifest: manifest.update(w_shape=[1, 2, 3]),
        lambda manifest: manifest["inputs"][0].pop("dtype"),
        lambda manifest: manifest["inputs"][0].update(shape=["free"]),
        lambda manifest: manifest["parity"].pop("seeds"),
        lambda manifest: manifest["provenance"].update(author="somebody"),
        lambda manifest: manifest["tile"].pop("seam_levels"),
        lambda manifest: manifest["plan"].update(flavour="rtx"),
        lambda manifest: manifest["plan"]["profiles"][0]["image"].pop("max"),
    ],
)
def test_a_wrong_manifest_fits_neither_the_schema_nor_the_reader(spoil: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads(UPSCALER.to_json())
    assert VALIDATOR.is_valid(manifest)
    assert is_read(manifest)
    spoil(manifest)
    assert not VALIDATOR.is_valid(manifest)
    assert not is_read(manifest)


@pytest.mark.parametrize("rows", [((0.0, 1.0),) * 3, ((1.0, 0.0),), ((0.0,),), ()])
def test_a_critic_whose_scores_are_no_distribution_is_not_read(rows: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(SpecError, match=r"critic\.quantiles"):
        Spec.from_json(replace(GENERATOR, critic=replace(CRITIC, quantiles=rows)).to_json())


def test_the_pages_example_fits_the_schema_and_is_read() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", read("manifest.md"), re.DOTALL)
    VALIDATOR.validate(json.loads(example))
    assert Spec.from_json(example).labels == ("cat", "dog")


def test_the_page_explains_every_field() -> None:
    table = read("manifest.md").partition("## Fields")[2]
    missing = {name for name in SCHEMA["properties"] if f"`{name}`" not in table}
    missing |= {
        name
        for part in ("tile", "plan", "critic", "judge")
        for name in SCHEMA["$defs"][part]["properties"]
        if name not in table
    }
    assert missing == set()


def test_a_judge_that_is_none_is_not_read() -> None:
    told = replace(GOLDEN, judged=((40, 24),), judge=SHA256)
    for golden, judge, says in (
        (GOLDEN, replace(JUDGE, classes=("cat",)), "2 different classes or more"),
        (replace(told, judged=((40, 20, 4),)), JUDGE, "judged has 3 classes, judge 2"),
        (replace(told, judged=((40, 23),)), JUDGE, "judged has 63 images, must have 64"),
        (replace(told, judged=((40, 24), (0, 0))), JUDGE, "judged has 2 rows, figures 1"),
    ):
        with pytest.raises(SpecError, match=says):
            Spec.from_json(replace(GENERATOR, golden=golden, judge=judge).to_json())
