"""The command: in this process against the fake server, in a process of its own for exit codes and imports."""

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ganserve import Client
from ganserve.cli.app import app
from ganserve.cli.export import parse_settings
from ganserve.cli.grid import compose_grid
from ganserve.cli.main import main
from ganserve.cli.output import CommandError, needing
from tests.ganserve.fake_server import Fake, image_of

COMMANDS = [
    "zoo list",
    "zoo pull",
    "architectures",
    "inspect",
    "export",
    "serve",
    "generate",
    "upscale",
    "translate",
    "dataset",
    "evaluate",
    "directions",
    "animate",
    "project",
    "score",
    "verify",
    "models",
]
Capture = pytest.CaptureFixture[str]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ganserve", *arguments], capture_output=True, text=True, check=False)


def pixels_of(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_subcommand_has_help_with_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0
    assert f"Example: ganserve {command}" in result.output


def test_several_images_get_a_file_each(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "faces.png"
    assert main(["generate", "faces", "--seeds", "3,7-8", "-o", str(out), "--server", fake.server]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces-3.png", "faces-7.png", "faces-8.png"]
    np.testing.assert_array_equal(pixels_of(tmp_path / "faces-7.png"), image_of(7))
    assert "3 from faces version 3" in capsys.readouterr().out


def test_one_image_is_the_file_itself(fake: Fake, tmp_path: Path) -> None:
    out = tmp_path / "face.webp"
    assert main(["generate", "faces", "--seeds", "3", "-o", str(out), "--server", fake.server]) == 0
    with Image.open(out) as image:
        assert image.format == "WEBP"


def test_with_grid_all_images_are_one_file(fake: Fake, tmp_path: Path) -> None:
    out = tmp_path / "faces.png"
    grid = ["--grid", "--columns", "3", "-o", str(out), "--server", fake.server]
    assert main(["generate", "faces", "--seeds", "0-5", *grid]) == 0
    np.testing.assert_array_equal(pixels_of(out), compose_grid([image_of(seed) for seed in range(6)], 3))
    assert main(["generate", "faces", "--seeds", "0-5", *grid, "-o", str(tmp_path / "faces.bmp")]) == 0
    np.testing.assert_array_equal(pixels_of(tmp_path / "faces.bmp"), pixels_of(out))


def test_a_call_that_breaks_off_leaves_no_file(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("ganserve.cli.connect.Client", partial(Client, retries=0))
    fake.service.cuts = [(3, grpc.StatusCode.INTERNAL)]
    out = ["-o", str(tmp_path / "faces.png"), "--server", fake.server]
    assert main(["generate", "faces", "--seeds", "0-5", *out]) == 8
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "sent"), [("Blond_Hair,Male", ["Blond_Hair", "Male"]), ("0-2", ["0", "1", "2"]), ("", [""])]
)
def test_attributes_are_sent_by_name(fake: Fake, tmp_path: Path, given: str, sent: list[str]) -> None:
    face = tmp_path / "face.png"
    Image.fromarray(image_of(1)).save(face)
    command = ["translate", "stargan", str(face), "-o", str(tmp_path / "out.png"), "--server", fake.server]
    assert main([*command, "--label", given]) == 0
    assert list(fake.service.requests[-1].labels) == sent


def test_an_empty_part_of_attributes_is_refused(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    face = tmp_path / "face.png"
    Image.fromarray(image_of(1)).save(face)
    command = ["translate", "stargan", str(face), "-o", str(tmp_path / "out.png"), "--server", fake.server]
    assert main([*command, "--label", "a,,b"]) == 2
    assert "--label: 'a,,b' has an empty part" in capsys.readouterr().err


def test_one_seed_is_generated_once_for_each_label(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    out = ["-o", str(tmp_path / "d.png"), "--server", fake.server, "--json"]
    assert main(["generate", "digits", "--seeds", "5", "--labels", "0-2", *out]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d-5-0.png", "d-5-1.png", "d-5-2.png"]
    found = json.loads(capsys.readouterr().out)
    assert [(image["seed"], image["label"]) for image in found["images"]] == [(5, 0), (5, 1), (5, 2)]
    assert (found["model"], found["version"], found["largest_batch"]) == ("digits", "3", 3)


def test_without_seeds_the_server_chooses_one(fake: Fake, tmp_path: Path) -> None:
    assert main(["generate", "faces", "-o", str(tmp_path / "f.png"), "--server", fake.server]) == 0
    assert fake.service.requests[-1].count == 1


def test_an_image_is_enlarged_into_a_file(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    Image.fromarray(image_of(1)).save(small)
    assert main(["upscale", "sr", str(small), "-o", str(large), "--server", fake.server, "--json"]) == 0
    np.testing.assert_array_equal(pixels_of(large), image_of(1).repeat(2, 0).repeat(2, 1))
    found = json.loads(capsys.readouterr().out)
    assert (found["file"], found["width"], found["height"], found["tiles"]) == (str(large), 12, 8, 4)


def test_the_command_asks_for_a_size(fake: Fake, tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    Image.fromarray(image_of(1)).save(small)
    command = ["upscale", "sr", str(small), "-o", str(tmp_path / "large.png"), "--server", fake.server]
    assert main([*command, "--scale", "1.5"]) == 0
    assert main([*command, "--width", "30", "--height", "20", "--fit", "fill"]) == 0
    found = [(each.scale, each.width, each.height, each.fit) for each in fake.service.requests[-2:]]
    assert found == [(1.5, 0, 0, 0), (0.0, 30, 20, 3)]


def test_an_image_is_translated_into_a_file(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    sketch, photo = tmp_path / "sketch.png", tmp_path / "photo.png"
    Image.fromarray(image_of(1)).save(sketch)
    assert main(["translate", "pix", str(sketch), "-o", str(photo), "--server", fake.server]) == 0
    np.testing.assert_array_equal(pixels_of(photo), 255 - image_of(1))
    assert capsys.readouterr().out.startswith(f"{photo}  6x4  batch 3")
    assert main(["translate", "pix", str(sketch), "-o", str(photo), "--server", fake.server, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["file"], found["width"], found["height"], found["largest_batch"]) == (str(photo), 6, 4, 3)


def test_one_seed_is_generated_once_for_each_truncation_and_noise_seed(fake: Fake, tmp_path: Path) -> None:
    out = ["--grid", "-o", str(tmp_path / "grid.png"), "--server", fake.server]
    assert main(["generate", "faces", "--seeds", "3", "--truncation", "0,0.5,1", "--noise-seeds", "4-6", *out]) == 0
    request = fake.service.requests[-1]
    assert list(request.seeds.values) == [3, 3, 3]
    assert (list(request.truncations), list(request.noise_seeds)) == ([0, 0.5, 1], [4, 5, 6])


def test_images_go_through_further_models(fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", "faces", "--seeds", "3", "--then", "up", "--then", "paint", "--server", fake.server]
    command += ["-o", str(tmp_path / "large.png")]
    assert main(command) == 0
    assert [step.model for step in fake.service.requests[-1].then] == ["up", "paint"]
    assert "1 from faces version 3, then up version 1, then paint version 1, batch" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    step = {"model": "up", "version": "1", "tiles": 2, "batch_size": 4}
    assert json.loads(capsys.readouterr().out)["then"][0] == step


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_latents_and_w_come_from_files(fake: Fake, tmp_path: Path, suffix: str, capsys: Capture) -> None:
    rows = np.arange(12, dtype=np.float64).reshape(3, 2, 2)
    path = tmp_path / f"w{suffix}"
    np.save(path, rows) if suffix == ".npy" else np.savez(path, w=rows, other=rows[0])
    out = ["-o", str(tmp_path / "face.png"), "--server", fake.server, "--json"]
    assert main(["generate", "faces", "--w", str(path), *out]) == 0
    request = fake.service.requests[-1]
    assert (request.ws.data, request.ws.per_layer) == (rows.astype("<f4").tobytes(), True)
    names = [Path(image["file"]).name for image in json.loads(capsys.readouterr().out)["images"]]
    assert names == ["face-0.png", "face-1.png", "face-2.png"]
    np.save(tmp_path / "z.npy", rows[0])
    assert main(["generate", "faces", "--latents", str(tmp_path / "z.npy"), *out]) == 0
    assert fake.service.requests[-1].latents.data == rows[0].astype("<f4").tobytes()


def test_a_file_without_numbers_is_refused(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    out = ["-o", str(tmp_path / "face.png"), "--server", fake.server]
    np.savez(tmp_path / "two.npz", a=np.zeros(2), b=np.zeros(2))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "axes.npy", np.zeros((1, 2, 3)))
    (tmp_path / "text.npy").write_text("not an array")
    for name, text in (
        ("two.npz", "has a, b; expected one array, or z"),
        ("object.npy", "not a .npy or .npz file"),
        ("axes.npy", "expected numbers with 1 or 2 axes"),
        ("text.npy", "not a .npy or .npz file"),
        ("none.npy", "No such file"),
    ):
        assert main(["generate", "faces", "--latents", str(tmp_path / name), *out]) == 2
        assert text in capsys.readouterr().err
    assert fake.service.requests == []


def test_what_may_be_set_is_listed_with_limits_and_labels_by_name(fake: Fake, capsys: Capture) -> None:
    assert main(["models", "--server", fake.server]) == 0
    out = capsys.readouterr().out
    assert re.search(r"truncation +-2\.\.2, else 0\.7 +psi", out)
    assert re.search(r"w +16 x 512 numbers +in place of a seed", out)
    assert re.search(r"seed +0\.\.4294967295 +the same image", out)
    assert re.search(r"sketch .*any, to 4, 1 to 3 channels", out)
    assert "23 name 23, ... 6 more: `ganserve models digits`" in " ".join(out.split())
    assert main(["models", "digits", "--server", fake.server]) == 0
    out = capsys.readouterr().out
    assert "29 name 29" in " ".join(out.split())
    assert "faces" not in out
    assert main(["models", "nobody", "--server", fake.server]) == 2
    assert "has no model 'nobody'" in capsys.readouterr().err


def test_models_are_listed_for_people_and_for_scripts(fake: Fake, capsys: Capture) -> None:
    assert main(["models", "--server", fake.server]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", lines[1])[:5] == ["faces", "3", "READY", "unconditional", "dcgan"]
    assert "no such file" in lines[2]
    assert main(["models", "--server", fake.server, "--json"]) == 0
    names = [model["name"] for model in json.loads(capsys.readouterr().out)]
    assert names == ["faces", "broken", "digits", "sketch", "photo"]


def test_an_api_key_comes_from_a_file_or_the_environment(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("from-a-file\n")
    given = ["models", "--server", fake.server]
    monkeypatch.setenv("GANSERVE_CLIENT_API_KEY", "from-the-environment")
    assert main(given) == main([*given, "--api-key-file", str(key_file)]) == 0
    monkeypatch.delenv("GANSERVE_CLIENT_API_KEY")
    assert main(given) == 0
    sent = [metadata.get("authorization") for metadata in fake.service.metadata]
    assert sent == ["Bearer from-the-environment", "Bearer from-a-file", None]
    assert main([*given, "--api-key-file", str(tmp_path / "none")]) == 2
    assert "none: No such file" in capsys.readouterr().err


def test_the_zoo_is_listed_with_licence_source_and_hash(capsys: Capture) -> None:
    assert main(["zoo", "list", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {"faces", "digits", "realesr-animevideov3", "realesrgan-x4plus"} <= entries.keys()
    assert entries["faces"]["licence"].startswith("MIT")
    assert re.fullmatch("[0-9a-f]{64}", entries["faces"]["sha256"])
    assert main(["zoo", "list"]) == 0
    assert entries["faces"]["sha256"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["generate", "faces"], "Missing option"),
        (["generate", "faces", "-o", "x.txt"], "the suffix must be one of .png"),
        (["generate", "faces", "-o", "no/such/x.png"], "no/such: no such folder"),
        (["generate", "faces", "-o", "x.png", "--seeds", "3-1"], "--seeds: '3-1' runs backwards"),
        (["generate", "faces", "-o", "x.png", "--seeds", "1", "--count", "2"], "pass --seeds or --count"),
        (["generate", "faces", "-o", "x.png", "--seeds", "1", "--w", "w.npy"], "pass --seeds or --w, not both"),
        (["generate", "faces", "-o", "x.png", "--truncation", "a"], "--truncation: 'a' is not a number"),
        (["generate", "faces", "-o", "x.png", "--noise-seeds", "2-1"], "--noise-seeds: '2-1' runs backwards"),
        (["generate", "faces", "-o", "x.png", "--columns", "2"], "--columns goes with --grid"),
        (["generate", "faces", "-o", "x.png", "--labels", ","], "--labels:"),
        (["upscale", "sr", "no-such.png", "-o", "x.png"], "no-such.png: No such file"),
        (["zoo", "pull", "nope"], "no zoo entry 'nope'"),
        (["inspect", "no-such.pth"], "no-such.pth: no such file"),
        (["export", "faces", "--repository", "r", "--name", "f", "--set", "x"], "--set 'x': expected KEY=VALUE"),
        (["serve", "--grpc-port", "70000", "--repository", "."], "grpc_port: Input should be less than"),
    ],
)
def test_what_goes_wrong_is_one_line_and_exit_code_2(arguments: list[str], text: str, capsys: Capture) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("ganserve: ")
    assert captured.err.count("\n") == 1
    assert text in captured.err


def test_a_server_that_is_not_there_is_one_line_with_its_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    monkeypatch.setattr("ganserve.cli.connect.Client", partial(Client, retries=0))
    monkeypatch.setenv("GANSERVE_SERVER", "127.0.0.1:1")
    assert main(["generate", "faces", "-o", str(tmp_path / "x.png")]) == 4
    expected = r"ganserve: no server answers at 127\.0\.0\.1:1 \(.+\); is `ganserve serve` running\?\n"
    assert re.fullmatch(expected, capsys.readouterr().err)


def test_what_the_server_refuses_is_one_line_and_nothing_is_written(
    fake: Fake, tmp_path: Path, capsys: Capture
) -> None:
    out = ["-o", str(tmp_path / "x.png"), "--server", fake.server]
    assert main(["generate", "fails-NOT_FOUND", *out]) == 7
    assert capsys.readouterr().err == "ganserve: because NOT_FOUND\n"
    assert list(tmp_path.iterdir()) == []


def test_a_traceback_is_shown_only_on_request(capsys: Capture) -> None:
    assert main(["zoo", "pull", "nope"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(CommandError, match="nope"):
        main(["--traceback", "zoo", "pull", "nope"])


@pytest.mark.parametrize(
    ("status", "code"), [("UNAVAILABLE", 4), ("RESOURCE_EXHAUSTED", 5), ("INVALID_ARGUMENT", 7), ("INTERNAL", 8)]
)
def test_the_exit_code_says_what_kind_of_failure_it_was(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: str, code: int
) -> None:
    monkeypatch.setattr("ganserve.cli.connect.Client", partial(Client, retries=0))
    out = ["-o", str(tmp_path / "x.png"), "--server", fake.server]
    assert main(["generate", f"fails-{status}", *out]) == code


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--version", "ganserve "),
        ("-h", "Exit codes: 0 all"),
        ("zoo", "Usage: ganserve zoo"),
        ("upscale -h", "Example"),
    ],
)
def test_what_people_type_first_is_answered(arguments: str, text: str) -> None:
    result = CliRunner().invoke(app, arguments.split(), prog_name="ganserve", env={"TERM": "dumb"})
    assert result.exit_code == 0
    assert text in " ".join(result.output.split())


def test_shells_complete_subcommands() -> None:
    environment = {"_GANSERVE_COMPLETE": "complete_bash", "COMP_WORDS": "ganserve up", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from ganserve.__main__ import main; main()"],
        capture_output=True, text=True, check=True, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.stdout.split() == ["upscale"]


def test_exit_codes_reach_the_shell() -> None:
    assert run("--help").returncode == 0
    done = run("zoo", "pull", "nope")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_is_exit_code_130_without_a_word(fake: Fake, tmp_path: Path) -> None:
    image = tmp_path / "in.png"
    Image.fromarray(image_of(1)).save(image)
    command = [sys.executable, "-m", "ganserve", "upscale", "slow", str(image), "-o", str(tmp_path / "x.png")]
    with subprocess.Popen([*command, "--server", fake.server], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert fake.service.came.wait(30)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, errors) == (130, "")


def test_a_reader_that_leaves_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(
        [sys.executable, "-m", "ganserve", "zoo", "list"], stdout=writing, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(writing)
        _, errors = process.communicate(timeout=60)
    assert errors == ""
    assert process.returncode != 0


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(CommandError, match=r"pip install 'ganserve\[export\]'"), needing("export"):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    with pytest.raises(ModuleNotFoundError), needing("export"):
        raise ModuleNotFoundError("No module named 'server.ours'", name="server.ours")


def test_settings_are_read_as_pairs() -> None:
    assert parse_settings(["nz=100", " act = relu=6 "]) == {"nz": "100", "act": "relu=6"}
    for wrong in (["x"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(CommandError):
            parse_settings(wrong)


def test_the_command_starts_without_torch_the_server_or_the_models() -> None:
    code = (
        "import sys, ganserve.cli.app; print(*{'torch', 'onnxruntime', 'server', 'export', 'models'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("caught", ["()", "BaseException"])
def test_sigterm_is_exit_code_143_even_if_the_work_turns_it_into_an_error(caught: str) -> None:
    """As a Job's pod is stopped: process 1 gets no signal that it does not handle."""
    code = (
        "import sys, time, models.zoo.fetch\n"
        "def pull(*arguments, **options):\n"
        "    print('pulling', flush=True)\n"
        "    try:\n"
        "        time.sleep(60)\n"
        f"    except {caught}:\n"
        "        raise RuntimeError('failed')\n"
        "models.zoo.fetch.pull = pull\n"
        "from ganserve.cli.main import main\n"
        "sys.exit(main(['zoo', 'pull', 'faces']))"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "pulling\n"
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, errors) == (143, "")
