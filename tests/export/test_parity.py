"""Export's judgement of its own graph."""

from pathlib import Path

import pytest
import torch

from export.errors import ExportError
from export.parity import measure, open_session
from export.samples import inputs
from export.to_onnx import save, to_onnx
from export.wrapping import wrap
from models.basic.dcgan import DcganGenerator
from models.catalogue import build


@pytest.mark.parametrize("tensors", ["uint8", "float32"])
def test_a_graph_with_other_weights_is_refused(tensors: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = build(DcganGenerator((6, 16, 8, 3)).state_dict())[1]
    other = build(DcganGenerator((6, 16, 8, 3)).state_dict())[1]
    module = wrap(generator, tensors)
    save(to_onnx(module, generator, tensors, inputs(generator, tensors, (0, 1))), tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=r"differ by .*, tolerance .* \(fp32\); nothing was written"):
        measure(open_session(tmp_path / "model.onnx"), wrap(other, tensors), other, tensors, "fp32")


def test_levels_are_rounded_half_to_even_after_the_clamp() -> None:
    from export.wrapping import Levels

    picture = torch.tensor([-9.0, -1.0, -1 + 1 / 255, -1 + 3 / 255, 0.0, 1.0, 9.0]).reshape(1, 1, 1, -1)
    assert Levels((-1.0, 1.0))(picture).flatten().tolist() == [0, 0, 0, 2, 128, 255, 255]
