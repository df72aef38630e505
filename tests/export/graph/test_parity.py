"""Export's judgement of its own graphs."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx
import pytest
import torch

from artifact.spec import FINITE, Parity
from export.errors import ExportError
from export.graph.finite_flag import add_finite_flag
from export.graph.half_precision import to_half_precision
from export.graph.parity import LIMITS, Measurement, _require_close, doubt, measure, open_session, torch_references
from export.graph.pixels import ToUint8, wrap
from export.graph.rounding import simulate_rounding
from export.graph.samples import sample_inputs
from export.graph.trace import save, to_onnx
from export.graph.write import PARITY, Graphs, write_graphs
from models.architecture import Generator
from models.catalogue import build
from models.families.basic.cgan import ConditionalGenerator
from models.families.basic.dcgan import DcganGenerator
from models.families.superres.srvgg import SrvggNet
from tests.export.graph.overflowing import overflowing, overflowing_graph, traced


@pytest.mark.parametrize("tensors", ["uint8", "float32"])
def test_a_graph_with_other_weights_is_refused(tensors: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = build(DcganGenerator((6, 16, 8, 3)).state_dict())[1]
    other = build(DcganGenerator((6, 16, 8, 3)).state_dict())[1]
    module = wrap(generator, tensors)
    save(to_onnx(module, generator, tensors, sample_inputs(generator, tensors, (0, 1))), tmp_path / "model.onnx")
    with pytest.raises(
        ExportError,
        match=r"differ by .* \(fp32\); nothing was written; torch's own float32 is \S+e-0\d from its float64",
    ):
        measure(
            open_session(tmp_path / "model.onnx"),
            torch_references(wrap(other, tensors), other, tensors),
            other,
            tensors,
            "fp32",
        )


def test_weights_that_are_too_large_for_float32_are_named_as_the_reason() -> None:
    """As of an untrained network whose spectral norm divides by next to nothing: engines differ, and none is right."""
    torch.manual_seed(0)
    generator = build(DcganGenerator((6, 16, 8, 3)).state_dict(), overrides={"output": "none"})[1]
    assert doubt(generator) < 1e-6
    for weights in generator.network.parameters():
        weights.mul_(1e4)
    with pytest.raises(
        ExportError, match=r"float32 is [1-9]\S* from its float64 .*: neither is right, the weights make"
    ):
        _require_close(Measurement(Parity(2e-4, 0.03, (1,), (0,)), 90.0), "fp32", generator)


def test_levels_are_rounded_half_to_even_after_the_clamp() -> None:
    image = torch.tensor([-9.0, -1.0, -1 + 1 / 255, -1 + 3 / 255, 0.0, 1.0, 9.0]).reshape(1, 1, 1, -1)
    assert ToUint8((-1.0, 1.0))(image).flatten().tolist() == [0, 0, 0, 2, 128, 255, 255]


@cache
def classes() -> Generator:
    torch.manual_seed(0)
    return build(ConditionalGenerator(3, 2, 5, 8).state_dict())[1]


@dataclass(frozen=True)
class Written:
    folder: Path
    graphs: Graphs
    lines: list[str]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    """By precision."""
    found = {}
    for precision in LIMITS:
        lines: list[str] = []
        folder = tmp_path_factory.mktemp(precision)
        found[precision] = Written(folder, write_graphs(classes(), "uint8", precision, folder, lines.append), lines)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "files", "engine_source"),
    [
        ("fp32", {"model.onnx": False}, "model.onnx"),
        ("fp16", {"model.onnx": True, "model.fp32.onnx": True}, "model.onnx"),
        ("bf16", {"model.onnx": True}, "engine-source.onnx"),
    ],
)
def test_each_precision_has_its_files_and_says_which_rows_are_finite(
    precision: str, files: dict[str, bool], engine_source: str, written: dict[str, Written]
) -> None:
    folder, graphs, lines = written[precision].folder, written[precision].graphs, written[precision].lines
    found = {name: [value.name for value in onnx.load(path).graph.output] for name, path in graphs.files.items()}
    assert found == {name: ["image", FINITE] if flagged else ["image"] for name, flagged in files.items()}
    assert graphs.engine_source == folder / engine_source
    assert {path.name for path in folder.iterdir()} == {*files, engine_source}
    assert graphs.session.get_outputs()[0].name == "image"
    assert (
        graphs.measured.parity.max_difference <= graphs.measured.parity.tolerance == (6 if precision == "fp16" else 1)
    )
    assert sum("agrees with torch" in line for line in lines) == {"fp32": 1, "fp16": 3, "bf16": 2}[precision]


@pytest.mark.slow
def test_weights_have_the_precision_that_the_files_promise(written: dict[str, Written]) -> None:
    def kinds(path: Path) -> set[int]:
        return {tensor.data_type for tensor in onnx.load(path).graph.initializer} - {onnx.TensorProto.INT64}

    low = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
    for precision, element_type in low.items():
        graphs = written[precision].graphs
        assert element_type in kinds(graphs.engine_source)
        rest = [path for path in graphs.files.values() if path != graphs.engine_source]
        assert [kinds(path) for path in rest] == [{onnx.TensorProto.FLOAT}]


@pytest.mark.slow
def test_notes_say_how_16_bits_were_measured(written: dict[str, Written]) -> None:
    fp32, fp16, bf16 = (written[precision].graphs.notes for precision in LIMITS)
    assert len(fp32) == len(fp16) == 1
    assert fp32[0].startswith(f"{PARITY}: largest difference ")
    assert "every operator's result rounded to float16: a GPU rounds in other places too" in fp16[0]
    assert bf16[0].startswith(f"{PARITY}, model.onnx, fp32: largest difference ")
    assert bf16[1].startswith(f"{PARITY}, in bf16: ")
    assert bf16[2] == "ConvTranspose stays float32: TensorRT does not build it in bfloat16"


@pytest.mark.slow
def test_a_network_that_overflows_on_fixed_seeds_is_refused_in_float16(tmp_path: Path) -> None:
    sentence = "fp16 gives NaN or infinity in 1 of 1 images of .* nothing was written; try --precision bf16 with"
    with pytest.raises(ExportError, match=sentence):
        write_graphs(overflowing(), "uint8", "fp16", tmp_path, lambda line: None)
    assert not list(tmp_path.iterdir())


def simulated(generator: Generator, proto: onnx.ModelProto, tensors: str, precision: str) -> Measurement:
    session = open_session(simulate_rounding(add_finite_flag(to_half_precision(proto, precision)), precision))
    references = torch_references(wrap(generator, tensors), generator, tensors)
    return measure(session, references, generator, tensors, precision)


@pytest.mark.parametrize("tensors", ["uint8", "float32"])
def test_bfloat16_reaches_as_far_as_float32(tensors: str) -> None:
    measured = simulated(overflowing(), overflowing_graph(tensors), tensors, "bf16")
    assert measured.parity.tolerance == pytest.approx(32 if tensors == "uint8" else 32 / 255)
    assert 38 < measured.psnr_db < 60


@pytest.mark.slow
def test_what_loses_too_much_is_refused_with_what_was_found_and_what_to_try() -> None:
    torch.manual_seed(0)
    state = SrvggNet(3, 8, 3, 2, "prelu").state_dict()
    for tensor in state.values():
        tensor.normal_(0.0, 0.1)
    state["body.2.bias"] += 20  # is added to all that it knows
    state["body.4.bias"] -= 20 * state["body.4.weight"].sum((1, 2, 3))  # and taken away again
    generator = build(state)[1]
    proto = traced(generator, "uint8")
    found = r" is \d\d\.\d dB from torch's float32 and differs by up to \d+; "
    with pytest.raises(
        ExportError, match=found + "at least 45 dB and at most 6 are required; .*; try --precision fp32"
    ):
        simulated(generator, proto, "uint8", "fp16")
    with pytest.raises(
        ExportError, match=found + "at least 38 dB and at most 32 are required; .*; try --precision fp16"
    ):
        simulated(generator, proto, "uint8", "bf16")
