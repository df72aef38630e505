"""checkpoint -> model repository: what is written, and that nothing is when anything is wrong."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from artifact.repository import read_manifest, verify
from artifact.spec import Task, TensorSpec
from export.errors import ExportError
from export.graph.parity import open_session
from export.inspection import inspect
from export.pipeline import Exported, Request, export
from models.families.superres.srvgg import SrvggNet


@pytest.fixture(scope="module")
def faces(small_dcgan: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(Request(small_dcgan, tmp_path_factory.mktemp("repository"), "small-faces"))


@pytest.fixture(scope="module")
def upscaler(small_srvgg: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(Request(small_srvgg, tmp_path_factory.mktemp("repository"), "small-upscaler"))


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


def test_the_graph_carries_no_trace_of_the_machine_and_is_the_same_each_time(
    faces: Exported, small_dcgan: Path, tmp_path: Path
) -> None:
    graph = (faces.folder / "model.onnx").read_bytes()
    assert str(Path(torch.__file__).parents[1]).encode() not in graph
    assert str(Path.cwd()).encode() not in graph
    assert export(Request(small_dcgan, tmp_path, "again")).spec.files == faces.spec.files


@pytest.mark.slow
def test_each_export_takes_the_next_version(small_dcgan: Path, tmp_path: Path) -> None:
    first = export(Request(small_dcgan, tmp_path, "m", version=4))
    second = export(Request(small_dcgan, tmp_path, "m"))
    assert [first.folder.name, second.folder.name] == ["4", "5"]


def test_an_upscaler_takes_pictures_of_any_size(upscaler: Exported) -> None:
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
    names.write_text("cat\ndog\n\n bird \n")
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
@pytest.mark.parametrize("fixture", ["small_cgan", "small_srvgg"])
@pytest.mark.parametrize(("precision", "tensors"), [("fp32", "float32"), ("fp16", "uint8"), ("fp16", "float32")])
def test_other_precisions_and_tensors_pass_the_same_checks(
    fixture: str, precision: str, tensors: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    checkpoint: Path = request.getfixturevalue(fixture)
    done = export(Request(checkpoint, tmp_path, "m", precision=precision, tensors=tensors))
    graph = onnx.load(done.folder / "model.onnx").graph
    border = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert onnx.TensorProto.FLOAT16 not in border
    half = sum(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer)
    assert (half > 0) == (precision == "fp16")
    assert done.spec.parity.max_difference <= done.spec.parity.tolerance
    assert done.spec.outputs[0].dtype == {"uint8": "UINT8", "float32": "FP32"}[tensors]


def refused(request: Request, sentence: str) -> None:
    with pytest.raises(ExportError, match=sentence) as caught:
        export(request)
    assert "\n" not in str(caught.value)
    assert not request.repository.exists(), "nothing was written"


@pytest.mark.slow
def test_nothing_is_written_when_weights_do_not_fit_float16(tmp_path: Path) -> None:
    network = SrvggNet(3, 4, 3, 2, "prelu")
    torch.nn.init.constant_(network.body[0].weight, 1e5)  # type: ignore[arg-type]
    torch.save(network.state_dict(), tmp_path / "large.pth")
    refused(
        Request(tmp_path / "large.pth", tmp_path / "repository", "m", precision="fp16"), "the largest float16 is 65504"
    )


def test_inspect_says_what_a_checkpoint_is(small_cgan: Path) -> None:
    found = inspect(small_cgan)
    assert (found.architecture, found.task, found.dtype) == ("cgan", "class-conditional", "float32")
    assert found.inputs == ("latent FP32 (N, 5)", "label INT64 (N)")
    assert "eps" in found.settings
    assert found.hyperparameters["classes"] == 3
    assert found.parameters == sum(p.numel() for p in torch.load(small_cgan).values() if p.is_floating_point()) - 2 * (
        16 + 8
    ), "running statistics are no parameters"


@pytest.mark.slow
def test_a_new_version_keeps_what_an_operator_wrote_into_the_config(small_dcgan: Path, tmp_path: Path) -> None:
    folder = export(Request(small_dcgan, tmp_path, "m")).folder.parent
    written = (folder / "config.pbtxt").read_text()
    theirs = "version_policy { all {} }\ninstance_group { count: 2 kind: KIND_GPU }\n"
    (folder / "config.pbtxt").write_text(written.replace("max_batch_size: 32", "max_batch_size: 4") + theirs)
    export(Request(small_dcgan, tmp_path, "m"))
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert config.max_batch_size == 32
    assert (config.version_policy.WhichOneof("policy_choice"), config.instance_group[0].count) == ("all", 2)
    assert [tensor.name for tensor in config.input] == ["latent"]
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "config.pbtxt"]
