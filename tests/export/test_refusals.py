"""What export refuses before the network is traced, most of it before the checkpoint is read."""

from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from export.errors import ExportError
from export.pipeline import Request, export
from models.families.superres.srvgg import SrvggNet


@pytest.fixture(autouse=True)
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing fails the test."""

    def trace(*given: object) -> NoReturn:
        pytest.fail("the network was traced before everything was checked")

    monkeypatch.setattr("export.graph.write.to_onnx", trace)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the checkpoint fails the test."""
    monkeypatch.setattr("export.pipeline.open_source", lambda *given: pytest.fail("the checkpoint was read"))


def refused(sentence: str, checkpoint: Path | str, repository: Path, name: str = "m", **given: Any) -> None:
    """Exporting is refused with that sentence, in one line, and changes nothing on disk."""
    before = sorted(repository.parent.glob("**/*"))
    with pytest.raises(ExportError, match=sentence) as caught:
        export(Request(checkpoint, repository, name, **given))
    assert "\n" not in str(caught.value)
    assert sorted(repository.parent.glob("**/*")) == before, "nothing was written"


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"name": "../m"}, "model name '../m': must be a plain folder name"),
        ({"name": ""}, "model name '': must be a plain folder name"),
        ({"name": "m" * 300}, "must be a plain folder name, of up to 255 bytes"),
        ({"version": 0}, "version 0: must be a positive integer"),
        ({"precision": "int8"}, "--precision int8: must be one of fp32, fp16, bf16"),
        ({"precision": "bf16"}, "--precision bf16: needs --tensorrt"),
        ({"tensors": "png"}, "--tensors png: must be one of uint8, float32"),
        ({"profiles": ("1,2,4",)}, "--profile 1,2,4: needs --tensorrt"),
        ({"compute_capabilities": ("8.9",)}, r"--compute-capability 8\.9: needs --tensorrt"),
        ({"tensorrt": "lite"}, "--tensorrt lite: must be one of rtx, classic"),
        ({"tensorrt": "classic"}, "TensorRT is not installed"),
        ({"tensorrt": "rtx", "compute_capabilities": ("9.9",)}, r"--compute-capability 9\.9: this library builds for"),
        ({"labels": Path("no-such.txt")}, r"--labels no-such\.txt: no such file"),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else "",
)
def test_bad_options_are_refused_before_the_checkpoint_is_read(
    given: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    refused(sentence, "faces", tmp_path / "repository", **given)


@pytest.mark.usefixtures("unread")
def test_a_repository_that_cannot_be_written_is_refused_before_the_checkpoint_is_read(tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("no folder")
    refused("cannot write .*a file/m/1: ", "faces", tmp_path / "a file")
    refused("cannot write .*a file/below/m/1: ", "faces", tmp_path / "a file" / "below")
    (tmp_path / "repository" / "m" / "3").mkdir(parents=True)
    refused("m/3 exists; pass another --version or delete it", "faces", tmp_path / "repository", version=3)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version_policy {", r"the config\.pbtxt of m cannot be read: .*Expected"),
        (b"\xff\xff", r"the config\.pbtxt of m cannot be read: .*not UTF-8 text"),
        (b"sequence_batching {}", "sequence_batching does not apply to a generator"),
        (b"dynamic_batching { preferred_batch_size: [4, 64] }", "preferred_batch_size 64 exceeds .* batches of 32"),
        (b"default_model_filename: 'model.plan'", r"default_model_filename model\.plan is not among .*, model\.onnx$"),
    ],
)
def test_a_config_that_the_new_version_cannot_be_served_with_is_refused(
    content: bytes, sentence: str, small_dcgan: Path, tmp_path: Path
) -> None:
    (tmp_path / "repository" / "m").mkdir(parents=True)
    (tmp_path / "repository" / "m" / "config.pbtxt").write_bytes(content)
    refused(sentence, small_dcgan, tmp_path / "repository")
    assert (tmp_path / "repository" / "m" / "config.pbtxt").read_bytes() == content


def test_a_checkpoint_that_is_no_known_generator_is_refused(small_dcgan: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (tmp_path / "text.pth").write_text("no checkpoint")
    refused("no such file, and no zoo entry; the zoo has faces, digits", "no-such-thing", repository)
    refused(r"text\.pth", tmp_path / "text.pth", repository)
    refused(r"netG\.pth: --arch rrdb", small_dcgan, repository, arch="rrdb")
    refused(r"netG\.pth: .*--set colour: .*settable", small_dcgan, repository, overrides={"colour": "red"})


def test_labels_that_the_generator_does_not_have_are_refused(
    small_dcgan: Path, small_cgan: Path, tmp_path: Path
) -> None:
    names = tmp_path / "labels.txt"
    names.write_text("cat\ncat\ndog\n")
    refused("2 different names, the generator has 3 classes", small_cgan, tmp_path / "repository", labels=names)
    refused("dcgan has no label input", small_dcgan, tmp_path / "repository", labels=names)


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [("1,2", "expected min,opt,max"), ("1,2,4:64x64", "have a fixed size"), ("2,2,2", "no profile .* a batch of 1;")],
)
def test_profiles_that_the_network_does_not_support_are_refused(
    profile: str, sentence: str, small_dcgan: Path, tmp_path: Path
) -> None:
    refused(f"--profile {profile}: .*{sentence}", small_dcgan, tmp_path / "r", tensorrt="rtx", profiles=(profile,))


def test_a_network_that_diverged_is_refused(tmp_path: Path) -> None:
    network = SrvggNet(3, 4, 3, 2, "prelu")
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 1e30)
    torch.save(network.state_dict(), tmp_path / "diverged.pth")
    refused("the network gives NaN or infinity", tmp_path / "diverged.pth", tmp_path / "repository")
