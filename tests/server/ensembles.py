"""Ensembles for tests, as their users write them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

Tensor = tuple[str, str, str]  # name, data type, dims
StepText = tuple[str, Mapping[str, str], Mapping[str, str]]  # model, input_map, output_map

LATENT = ("LATENT", "TYPE_FP32", "4")
LARGE = ("LARGE", "TYPE_UINT8", "-1, -1, 3")
DRAW: StepText = ("tiny", {"latent": "LATENT"}, {"image": "small"})
ENLARGE: StepText = ("up", {"image": "small"}, {"upscaled": "LARGE"})


def _mapped(key: str, names: Mapping[str, str]) -> str:
    return " ".join(f'{key} {{ key: "{mine}" value: "{name}" }}' for mine, name in names.items())


def ensemble_text(
    steps: Sequence[StepText] = (DRAW, ENLARGE),
    inputs: Sequence[Tensor] = (LATENT,),
    outputs: Sequence[Tensor] = (LARGE,),
    max_batch_size: int = 8,
    version: int = -1,
    more: str = "",
) -> str:
    """A config.pbtxt; by default of `tiny`, whose images are enlarged by `up`."""
    lines = [f'platform: "ensemble" max_batch_size: {max_batch_size} {more}']
    for kind, tensors in (("input", inputs), ("output", outputs)):
        lines += [f'{kind} {{ name: "{name}" data_type: {dtype} dims: [ {dims} ] }}' for name, dtype, dims in tensors]
    lines.append("ensemble_scheduling {")
    for model, ins, outs in steps:
        maps = f"{_mapped('input_map', ins)} {_mapped('output_map', outs)}"
        lines.append(f'  step {{ model_name: "{model}" model_version: {version} {maps} }}')
    return "\n".join([*lines, "}"])


def write_ensemble(repository: Path, name: str, text: str) -> None:
    """A folder with the config and an empty version, as Triton has it."""
    (repository / name / "1").mkdir(parents=True, exist_ok=True)
    (repository / name / "config.pbtxt").write_text(text)
