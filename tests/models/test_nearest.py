"""What is said of weights that no architecture takes: the nearest, and what differs."""

import pytest
import torch

from models.architecture import ArchitectureError
from models.catalogue import ARCHITECTURES, detect
from models.nearest import PATTERNS, nearest, pattern
from tests.models.all_cases import CASES, FIRST
from tests.models.cases.base import ready


def patterns() -> str:
    lines: dict[str, None] = {}
    for case in CASES.values():
        keys = dict.fromkeys(pattern(key) for key in case.file(case.reference()))
        lines[" ".join((case.architecture, *keys))] = None
    return "\n".join(lines) + "\n"


def test_the_patterns_are_those_of_all_cases() -> None:
    assert PATTERNS.read_text("utf-8") == patterns(), "python -m tests.models.test_nearest"


@pytest.mark.parametrize("name", ["dcgan", "rrdb-x4", "resnet", "srresnet", "unet", "stylegan2", "fastgan"])
def test_a_tensor_too_many_is_named_with_the_architecture_it_is_like(name: str) -> None:
    case = CASES[FIRST.get(name, name)]
    state = {**case.file(ready(case)), "to_depth.weight": torch.zeros(3, 3)}
    assert nearest(state, ARCHITECTURES).startswith(f"like {case.architecture} but for ")
    assert "to_depth.weight" in nearest(state, ARCHITECTURES)


def test_missing_statistics_are_named() -> None:
    case = CASES["dcgan"]
    state = {key: value for key, value in case.file(ready(case)).items() if "main.1.running" not in key}
    with pytest.raises(ArchitectureError, match=r"like dcgan but for main\.1\.running_mean, .* missing"):
        detect(state)


def test_what_is_like_nothing_is_said_to_be_nothing_else() -> None:
    assert nearest({"a.b": torch.zeros(3), "c.d": torch.zeros(3)}, ARCHITECTURES) == "2 tensors, beginning a.b, c.d"


if __name__ == "__main__":
    PATTERNS.write_text(patterns(), "utf-8")
