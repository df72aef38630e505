"""checkpoint -> model repository: what an export writes."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from artifact.repository import read_manifest, verify
from artifact.spec import Scalar, Task, TensorSpec
from export.errors import ExportError
from export.graph.parity import open_session
from export.inspection import inspect
from export.pipeline import Exported, Request, export
from models.architecture import Generator, StateDict
from models.catalogue import ARCHITECTURES
from models.families.superres.srvgg import SrvggNet


def test_a_version_holds_graph_manifest_and_config(faces: Exported) -> None:
    spec = read_manifest(faces.folder)
    assert spec == faces.spec
    verify(faces.folder, spec)
    assert faces.folder.name == "1"
    assert sorted(path.name for path in faces.folder.parent.iterdir()) == ["1", "config.pbtxt"]
    assert (spec.task, spec.architecture, spec.latent_size) == (Task.UNCONDITIONAL, "dcgan", 6)
    assert spec.image_shape == (16, 16, 3)
    assert spec.outputs == (TensorSpec("image", "UINT8", (16, 16, 3)),)
    assert spec.parity.batch_sizes == (1, 5)
    assert spec.provenance.source == "netG.pth"
    assert set(spec.provenance.exported_with) == {"torch", "onnx", "onnxscript", "onnxruntime"}


def test_config_is_a_model_config_that_batches(faces: Exported) -> None:
    config = model_config_pb2.ModelConfig()
    text_format.Parse((faces.folder.parent / "config.pbtxt").read_text(), config)
    assert (config.name, config.platform, config.backend) == ("small-faces", "onnxruntime_onnx", "onnxruntime")
    assert config.max_batch_size == 32
    assert config.HasField("dynamic_batching")
    assert [(entry.name, list(entry.dims)) for entry in config.input] == [("latent", [6])]
    assert [(entry.name, list(entry.dims)) for entry in config.output] == [("image", [16, 16, 3])]


def test_the_cast_to_uint8_is_last_and_batchnorm_is_gone(faces: Exported) -> None:
    nodes = onnx.load(faces.folder / "model.onnx").graph.node
    kinds = [node.op_type for node in nodes]
    assert kinds[-2:] == ["Transpose", "Cast"]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Mul") == kinds.count("Add") == 1, "range to levels is one multiply and one add"


def test_the_graph_carries_no_trace_of_the_machine(faces: Exported) -> None:
    graph = (faces.folder / "model.onnx").read_bytes()
    assert str(Path(torch.__file__).parents[1]).encode() not in graph
    assert str(Path.cwd()).encode() not in graph


@pytest.mark.slow
def test_a_new_version_is_the_next_and_keeps_what_an_operator_wrote_into_the_config(
    faces: Exported, small_dcgan: Path, tmp_path: Path
) -> None:
    model = tmp_path / "m"
    shutil.copytree(faces.folder, model / "4")
    written = (faces.folder.parent / "config.pbtxt").read_text()
    theirs = "version_policy { all {} }\ninstance_group { count: 2 kind: KIND_GPU }\n"
    (model / "config.pbtxt").write_text(written.replace("max_batch_size: 32", "max_batch_size: 4") + theirs)
    again = export(Request(small_dcgan, tmp_path, "m"))
    assert sorted(path.name for path in model.iterdir()) == ["4", "5", "config.pbtxt"]
    assert again.folder == model / "5"
    assert again.spec.files == faces.spec.files, "the same checkpoint gives the same bytes"
    config = text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert (config.name, config.max_batch_size) == ("m", 32)
    assert (config.version_policy.WhichOneof("policy_choice"), config.instance_group[0].count) == ("all", 2)
    assert [tensor.name for tensor in config.input] == ["latent"]


def test_an_upscaler_accepts_images_of_any_size(upscaler: Exported) -> None:
    session = open_session(upscaler.folder / "model.onnx")
    for shape in ((1, 1, 1, 3), (3, 17, 23, 3), (2, 64, 5, 3)):
        found = session.run(None, {"image": np.full(shape, 200, dtype=np.uint8)})[0]
        assert found.dtype == np.uint8
        assert found.shape == (shape[0], 2 * shape[1], 2 * shape[2], 3)


def test_an_upscalers_tiles_leave_no_seam_beyond_what_the_manifest_says(upscaler: Exported) -> None:
    spec = upscaler.spec
    assert spec.tile is not None
    assert (spec.scale, spec.tile.receptive_field_px, spec.tile.multiple_px) == (2, 4, 1)
    assert spec.tile.overlap_px >= spec.tile.receptive_field_px
    assert spec.tile.seam_levels <= 1
    assert spec.inputs == (TensorSpec("image", "UINT8", (-1, -1, 3)),)
    assert spec.outputs == (TensorSpec("upscaled", "UINT8", (-1, -1, 3)),)


@pytest.mark.slow
def test_labels_come_from_a_file_and_reach_manifest_and_config(small_cgan: Path, tmp_path: Path) -> None:
    names = tmp_path / "labels.txt"
    names.write_text("cat\r\ndog\r\n\r\n bird \r\n", "utf-8-sig")  # as Notepad does
    done = export(Request(small_cgan, tmp_path / "repository", "animals", labels=names))
    assert done.spec.labels == ("cat", "dog", "bird")
    assert done.spec.inputs == (TensorSpec("latent", "FP32", (5,)), TensorSpec("label", "INT64", ()))
    config = model_config_pb2.ModelConfig()
    text_format.Parse((done.folder.parent / "config.pbtxt").read_text(), config)
    assert [list(entry.dims) for entry in config.input] == [[5], [1]]
    label = config.input[1]
    assert (label.HasField("reshape"), list(label.reshape.shape)) == (True, []), "Triton takes no empty dims"
    assert [list(entry.dims) for entry in config.output] == [[28, 28, 1]]


@pytest.mark.slow
@pytest.mark.parametrize(("checkpoint", "precision"), [("small_cgan", "fp32"), ("small_srvgg", "fp16")])
def test_the_networks_own_tensors_pass_the_same_checks(
    checkpoint: str, precision: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(checkpoint)
    check_precision(export(Request(path, tmp_path, "m", precision=precision, tensors="float32")), precision, "FP32")


def test_the_graph_for_16_bits_is_the_same_network_without_rounding(upscaler: Exported) -> None:
    image = np.random.RandomState(0).randint(0, 256, (2, 16, 20, 3)).astype(np.uint8)
    coarse = open_session(upscaler.folder / "model.fp32.onnx").run(None, {"image": image})[0].astype(int)
    session = open_session(upscaler.folder / "model.float.onnx")
    (fine,) = session.run(None, {"image": image.astype(np.float32) / 255})
    assert (fine.dtype, fine.shape, fine.min() >= 0, fine.max() <= 1) == (np.float32, coarse.shape, True, True)
    assert np.abs(np.rint(fine * 255) - coarse).max() <= 1
    (nearby,) = session.run(None, {"image": (image.astype(np.float32) + np.float32(0.2)) / 255})
    inside = (fine > 0) & (fine < 1)
    assert (nearby != fine)[inside].mean() > 0.9, "steps smaller than a level come through"
    assert upscaler.spec.float_parity is not None
    assert upscaler.spec.float_parity.max_difference < 1e-3


def test_float16_is_inside_the_graph_and_not_at_its_borders(upscaler: Exported) -> None:
    check_precision(upscaler, "fp16", "UINT8")
    verify(upscaler.folder, upscaler.spec)
    assert sorted(upscaler.spec.files) == ["model.float.onnx", "model.fp32.onnx", "model.onnx"]


def check_precision(exported: Exported, precision: str, output: str) -> None:
    graph = onnx.load(exported.folder / "model.onnx").graph
    borders = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert onnx.TensorProto.FLOAT16 not in borders
    half = sum(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer)
    assert (half > 0) == (precision == "fp16")
    assert exported.spec.parity.max_difference <= exported.spec.parity.tolerance
    assert exported.spec.outputs[0].dtype == output


@pytest.mark.slow
def test_nothing_is_written_when_weights_do_not_fit_float16(tmp_path: Path) -> None:
    network = SrvggNet(3, 4, 3, 2, "prelu")
    torch.nn.init.constant_(next(network.body[0].parameters()), 1e5)
    torch.save(network.state_dict(), tmp_path / "large.pth")
    with pytest.raises(ExportError, match="the largest float16 is 65504") as caught:
        export(Request(tmp_path / "large.pth", tmp_path / "repository", "m", precision="fp16"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "repository").exists()


def test_inspect_says_what_a_checkpoint_is(small_cgan: Path) -> None:
    found = inspect(small_cgan)
    assert (found.architecture, found.task, found.dtype) == ("cgan", "class-conditional", "float32")
    assert found.inputs == ("latent FP32 (N, 5)", "label INT64 (N)")
    assert "eps" in found.settings
    assert found.hyperparameters["classes"] == 3
    assert found.parameters == sum(p.numel() for p in torch.load(small_cgan).values() if p.is_floating_point()) - 2 * (
        16 + 8
    ), "running statistics are no parameters"


def test_images_are_not_cut_where_tiles_would_differ_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ARCHITECTURES["srvgg"]

    def build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
        generator = entry.build(state, settings)
        assert generator.tile is not None
        return replace(generator, tile=replace(generator.tile, overlap_px=1, max_seam_levels=2.0))

    torch.manual_seed(0)
    torch.save(SrvggNet(3, 8, 6, 2, "prelu").state_dict(), tmp_path / "up.pth")
    monkeypatch.setitem(ARCHITECTURES, "srvgg", replace(entry, build=build))
    exported = export(Request(tmp_path / "up.pth", tmp_path / "repository", "up"))
    assert exported.spec.tile is None
    assert "not tileable: the receptive field is 6 px, and tiles that overlap by 1 px differ by" in exported.notes[-1]
