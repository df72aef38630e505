"""`ganserve dataset` against the fake server: the forms, as their readers read them, and what can go wrong."""

import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from ganserve import Client
from ganserve.cli.main import main
from ganserve.client.options import GenerateOptions
from ganserve.datasets.requests import Source
from tests.ganserve.fake_server import Fake, image_of

Capture = pytest.CaptureFixture[str]
FORMATS = ("imagefolder", "webdataset", "nvlabs-zip", "parquet")
PER_CLASS = ("--per-class", "3=10,name 7=20")


def command(fake: Fake, out: Path, *options: str, model: str = "digits") -> list[str]:
    return ["dataset", model, "--out", str(out), "--server", fake.server, "--deadline", "300", *options]


def listed(out: Path) -> list[dict[str, Any]]:
    """What the lists say of every image, in order."""
    return [json.loads(line) for path in sorted(out.glob("*.jsonl")) for line in path.read_text().splitlines()]


def contents(out: Path) -> dict[str, str]:
    """The sha256 of every file."""
    files = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def check(images: list[tuple[int, int, np.ndarray[Any, Any], str]]) -> None:
    """Whether (seed, label, pixels, class) are 10 images of class 3 and 20 of class 7, those of their seeds."""
    assert sorted(seed for seed, _, _, _ in images) == list(range(100, 130))
    assert sorted(label for _, label, _, _ in images) == [3] * 10 + [7] * 20
    for seed, label, found, name in images:
        assert name == f"name {label}"
        np.testing.assert_array_equal(found, image_of(seed))


@pytest.fixture
def square(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of 4x4 instead of 4x6, since NVIDIA's tools take squares."""
    monkeypatch.setattr("tests.ganserve.fake_server.image_of", lambda seed, channels=3: image_of(seed, channels)[:, :4])


def test_imagefolder_has_a_folder_for_each_class(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "set"
    assert main(command(fake, out, *PER_CLASS, "--shards", "4", "--first-seed", "100", "--json")) == 0
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["name 3", "name 7"]
    files = ((path.parent.name, path) for path in out.rglob("*.png"))
    check([(int(path.stem), int(name[-1]), pixels(path.read_bytes()), name) for name, path in files])
    for line in listed(out):
        path = out / line["file"]
        assert (path.stem, path.parent.name) == (f"{line['seed']:08d}", line["class"])
        assert hashlib.sha256(path.read_bytes()).hexdigest() == line["sha256"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["model"] == {"name": "digits", "version": "1", "sha256": "5ead", "licence": "", "source": ""}
    assert [(each["label"], each["name"], each["images"]) for each in manifest["classes"]] == [
        (3, "name 3", 10), (7, "name 7", 20),
    ]  # fmt: skip
    assert json.loads(capsys.readouterr().out)["made"] == [0, 1, 2, 3]


def test_a_model_without_classes_is_one_folder(fake: Fake, tmp_path: Path) -> None:
    assert main(command(fake, tmp_path / "set", "--count", "5", "--image-format", "jpeg", model="faces")) == 0
    assert sorted(path.name for path in (tmp_path / "set" / "faces").iterdir()) == [f"{n:08d}.jpg" for n in range(5)]
    assert "label" not in listed(tmp_path / "set")[0]


WEBDATASET = """
import sys, webdataset
for each in webdataset.WebDataset(sys.argv[1:], shardshuffle=False).decode("rgb8"):
    found.append((each["json"]["seed"], each["cls"], each["png"].tolist(), each["json"]["class"]))
"""
HUGGING_FACE = """
import sys, datasets, numpy
loaded = datasets.load_dataset(sys.argv[1])["train"]
for each in loaded:
    name = loaded.features["label"].names[each["label"]]
    found.append((each["seed"], each["label"], numpy.asarray(each["image"]).tolist(), name))
folders = datasets.load_dataset("imagefolder", data_dir=sys.argv[2])["train"]
names = folders.features["label"].names
assert sorted(names[each["label"]] for each in folders) == sorted(each[3] for each in found)
"""


def read_by(code: str, package: str, cache: Path, *arguments: str) -> list[tuple[int, int, np.ndarray[Any, Any], str]]:
    """What another package reads, in a process of its own: (seed, label, pixels, class)."""
    pytest.importorskip(package)
    whole = f"import json\nfound = []\n{code}\nprint(json.dumps(found))"
    environment = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", whole, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return [(seed, label, np.array(image, np.uint8), name) for seed, label, image, name in found]


@pytest.mark.slow
def test_webdataset_reads_its_tars(fake: Fake, tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert main(command(fake, out, *PER_CLASS, "--shards", "2", "--first-seed", "100", "--format", "webdataset")) == 0
    tars = sorted(map(str, out.glob("*.tar")))
    assert [Path(each).name for each in tars] == ["digits-000000.tar", "digits-000001.tar"]
    check(read_by(WEBDATASET, "webdataset", tmp_path, *tars))


@pytest.mark.slow
def test_hugging_face_reads_parquet_and_folders(fake: Fake, tmp_path: Path) -> None:
    out, folders = tmp_path / "set", tmp_path / "folders"
    options = (*PER_CLASS, "--shards", "2", "--first-seed", "100")
    assert main(command(fake, out, *options, "--format", "parquet")) == 0
    names = [path.name for path in sorted((out / "data").iterdir())]
    assert names == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert main(command(fake, folders, *options)) == 0
    check(read_by(HUGGING_FACE, "datasets", tmp_path / "cache", str(out), str(folders)))


@pytest.mark.usefixtures("square")
def test_nvidias_zip_is_joined_of_its_shards(fake: Fake, tmp_path: Path) -> None:
    single, several = tmp_path / "single", tmp_path / "several"
    options = (*PER_CLASS, "--format", "nvlabs-zip", "--first-seed", "100")
    assert main(command(fake, single, *options, "--shards", "1")) == 0
    for index in (2, 0, 1):
        assert not (several / "digits.zip").exists()
        assert main(command(fake, several, *options, "--shards", "3", "--shard-index", str(index))) == 0
    assert [path.name for path in several.glob("*.zip")] == ["digits.zip"]
    assert (several / "digits.zip").read_bytes() == (single / "digits.zip").read_bytes()
    with zipfile.ZipFile(several / "digits.zip") as opened:
        entries = opened.infolist()
        assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
        labels = dict(json.loads(opened.read("dataset.json"))["labels"])
        names = sorted(name for name in opened.namelist() if name.endswith(".png"))
        assert names == [f"00000/img{index:08d}.png" for index in range(30)]
        assert [labels[name] for name in names] == [line["label"] for line in listed(several)]
        for index, name in enumerate(names):
            np.testing.assert_array_equal(pixels(opened.read(name)), image_of(100 + index)[:, :4])
    assert fake.service.requests[-2].encoding.quality == 0  # uncompressed, as NVIDIA's tool writes them
    assert main(command(fake, several, *options, "--shards", "3")) == 0  # all is there


@pytest.mark.usefixtures("square")
def test_nvidias_zip_without_classes_has_null_for_labels(fake: Fake, tmp_path: Path) -> None:
    assert main(command(fake, tmp_path / "set", "--count", "3", "--format", "nvlabs-zip", model="faces")) == 0
    with zipfile.ZipFile(tmp_path / "set" / "faces.zip") as opened:
        assert json.loads(opened.read("dataset.json")) == {"labels": None}


@pytest.mark.usefixtures("square")
@pytest.mark.parametrize("format", FORMATS)
def test_the_same_images_are_the_same_bytes_in_whatever_order(fake: Fake, tmp_path: Path, format: str) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    options = (*PER_CLASS, "--shards", "2", "--format", format)
    assert main(command(fake, one, *options)) == 0
    for index in "10":
        assert main(command(fake, other, *options, "--shard-index", index, "--in-flight", "3")) == 0
    assert contents(one) == contents(other)
    assert not [path for path in one.rglob(".*") if path.is_file()]


@pytest.mark.parametrize("format", ["imagefolder", "webdataset", "parquet"])
def test_whole_shards_are_verified_and_what_changed_is_named(
    fake: Fake, tmp_path: Path, capsys: Capture, format: str
) -> None:
    out = tmp_path / "set"
    run = command(fake, out, *PER_CLASS, "--shards", "2", "--format", format)
    assert main(run) == 0
    before, calls = contents(out), len(fake.service.requests)
    assert main(run) == 0
    assert contents(out) == before
    assert len(fake.service.requests) - calls == 2  # the list of models, and the first image
    changed = next(path for path in sorted(out.rglob("*")) if path.suffix in (".png", ".tar", ".parquet"))
    changed.write_bytes(changed.read_bytes() + b"\0")
    assert main(run) == 2
    assert f"{changed} has changed since it was written; to make it again, delete shard-" in capsys.readouterr().err
    changed.unlink()
    assert main(run) == 2
    assert f"{changed} is missing" in capsys.readouterr().err
    (out / "shard-00000-of-00002.json").unlink()
    assert main(run) == 0
    assert contents(out) == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--per-class", "3=11,name 7=20", "--shards", "2"], "images is 30 there, 31 here"),
        ([*PER_CLASS, "--shards", "3"], "shards is 2 there, 3 here"),
        ([*PER_CLASS, "--shards", "2", "--format", "webdataset"], "format is 'imagefolder' there, 'webdataset' here"),
        ([*PER_CLASS, "--shards", "2", "--truncation", "0.5"], "parameters.truncation is None there, 0.5 here"),
        ([*PER_CLASS, "--shards", "2", "--edit", "smile:2"], "parameters.edits is None there"),
        ([*PER_CLASS, "--shards", "2", "--then", "up"], "parameters.then is None there"),
    ],
)
def test_another_data_set_is_not_mixed_in(
    fake: Fake, tmp_path: Path, capsys: Capture, options: list[str], says: str
) -> None:
    out = tmp_path / "set"
    assert main(command(fake, out, *PER_CLASS, "--shards", "2", "--shard-index", "0")) == 0
    before = contents(out)
    assert main(command(fake, out, *options)) == 2
    assert says in capsys.readouterr().err
    assert contents(out) == before


def test_a_folder_with_something_else_in_it_is_left_alone(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "thesis.tex").touch()
    assert main(command(fake, tmp_path, *PER_CLASS)) == 2
    assert "holds thesis.tex and no manifest.json" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_model_that_changed_between_two_runs_is_named(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "set"
    assert main(command(fake, out, *PER_CLASS, "--shards", "2", "--shard-index", "0")) == 0
    fake.service.sha256 = "0ther"
    assert main(command(fake, out, *PER_CLASS, "--shards", "2", "--shard-index", "1")) == 2
    assert "model.sha256 is '5ead' there, '0ther' here; the model has changed since" in capsys.readouterr().err


def test_a_shard_during_which_the_model_changed_is_not_kept(
    fake: Fake, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "set"
    made = fake.service._generate

    def changing(request: Any, index: int) -> Any:
        fake.service.sha256 = "0ther" if len(fake.service.requests) > 2 else "5ead"
        return made(request, index)

    monkeypatch.setattr(fake.service, "_generate", changing)
    assert main(command(fake, out, *PER_CLASS, "--format", "webdataset")) == 2
    assert "changed while its images were generated" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["manifest.json"]


def test_a_refusal_comes_before_any_folder(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "set"
    for options, says, code in (
        ([*PER_CLASS, "--shards", "2", "--shard-index", "2"], "--shard-index 2: must be 0..1", 2),
        ([*PER_CLASS, "--shard-index", "1"], "--shard-index 1: must be 0..0", 2),
        ([*PER_CLASS, "--format", "nvlabs-zip"], "take square images of 1 or 3 channels; these are 6x4 of 3", 2),
        ([*PER_CLASS, "--format", "nvlabs-zip", "--quality", "3"], "uncompressed PNGs", 2),
        ([*PER_CLASS, "--edit", "0:1,2"], "give one strength or seed", 2),
        (["--per-class", "30=1"], "no class '30'", 2),
        (["--count", "5", "--shards", "6"], "--shards 6: more than there are images, 5", 2),
    ):
        assert main(command(fake, out, *options)) == code
        assert says in capsys.readouterr().err
        assert not out.exists()
    fake.service.refusals = [grpc.StatusCode.INVALID_ARGUMENT]
    assert main(command(fake, out, "--count", "3", model="sketch")) == 7  # the list of models was refused
    assert main(command(fake, out, "--count", "3", model="sketch")) == 2
    assert "is for image-to-image" in capsys.readouterr().err
    assert main(command(fake, out, "--count", "3", model="nothing")) == 7
    assert "no model 'nothing'" in capsys.readouterr().err
    assert not out.exists()


def test_an_overloaded_server_is_asked_again_until_the_deadline(
    fake: Fake, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganserve.cli.connect.Client", partial(Client, retries=0))
    monkeypatch.setattr("ganserve.datasets.requests.FIRST_PAUSE_S", 0.01)
    heed = fake.service._heed
    refusals = [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE] * 2

    async def late(request: Any, context: Any) -> None:
        if len(fake.service.requests) == 3:
            fake.service.refusals = refusals
        await heed(request, context)

    monkeypatch.setattr(fake.service, "_heed", late)
    options = (*PER_CLASS, "--in-flight", "4")
    assert main(command(fake, tmp_path / "set", *options)) == 0
    assert "refused; trying again for" in capsys.readouterr().err
    assert len(listed(tmp_path / "set")) == 30
    fake.service.requests.clear()
    refusals = [grpc.StatusCode.UNAVAILABLE] * 99

    def impatient(client: Client, options: GenerateOptions, in_flight: int, _: float, say: Any) -> Source:
        return Source(client, options, in_flight, 0.0, say)

    monkeypatch.setattr("ganserve.cli.dataset.Source", impatient)
    assert main(command(fake, tmp_path / "b", *options, "--format", "webdataset")) == 4
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.usefixtures("square")
def test_a_full_disk_is_one_line_and_leaves_whole_files_only(
    fake: Fake, tmp_path: Path, capsys: Capture, format: str
) -> None:
    out = tmp_path / "set"
    run = command(fake, out, *PER_CLASS, "--shards", "2", "--format", format)
    assert main([*run, "--shard-index", "0"]) == 0
    before = contents(out)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = 30 if format == "imagefolder" else 1500
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        code = main([*run, "--shard-index", "1"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    assert "whole shards are kept: make room and run it again" in capsys.readouterr().err
    assert contents(out) == before
    assert main(run) == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_ended_leaves_whole_shards_to_go_on_from(
    fake: Fake, tmp_path: Path, capsys: Capture, number: signal.Signals, interruptible: None
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "set"
    options = (*PER_CLASS, "--shards", "3", "--format", "webdataset", "--in-flight", "4")
    assert main(command(fake, whole, *options)) == 0
    fake.service.requests.clear()
    fake.service.came.clear()
    fake.service.halts_at = 20  # in the second shard
    run = [sys.executable, "-m", "ganserve", *command(fake, out, *options)]
    with subprocess.Popen(run) as process:
        assert fake.service.came.wait(60)
        assert main(command(fake, out, *options, "--shard-index", "1")) == 2
        assert "another process is writing shard 1" in capsys.readouterr().err
        process.send_signal(number)
        assert process.wait(60) == (130 if number is signal.SIGINT else -signal.SIGKILL)
    names = {path.name for path in out.iterdir()}
    assert {"digits-000000.tar", "manifest.json"} <= names
    assert "digits-000001.tar" not in names
    if number is signal.SIGINT:
        assert not any(name.startswith(".") for name in names)
    assert main(command(fake, out, *options)) == 0
    found = contents(out)
    assert {name: found[name] for name in contents(whole)} == contents(whole)
    assert not [name for name in found if ".part" in name]
