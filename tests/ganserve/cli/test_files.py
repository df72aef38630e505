"""Files in, files out: what `upscale` and `translate` read, where results go, and what becomes of failures."""

import io
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from ganserve import Client
from ganserve.cli.exit_codes import EXIT_CODES
from ganserve.cli.main import main
from ganserve.cli.media.geotiff import placed
from ganserve.cli.media.plan import Naming, plan
from ganserve.cli.output import CommandError
from tests.ganserve.fake_server import Fake, image_of

Capture = pytest.CaptureFixture[str]
Code = grpc.StatusCode
PLAIN = Naming(None, "", "sr")


def twice(pixels: Any) -> Any:
    """What the fake server makes of an image."""
    return pixels.repeat(2, 0).repeat(2, 1)


def read(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def upscale(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`upscale("in.png", "-o", "out.png")`: the exit code."""
    monkeypatch.setenv("GANSERVE_SERVER", fake.server)
    return lambda *arguments, model="sr": main(["upscale", model, *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a tree of images and something else."""
    found = tmp_path / "in"
    for seed, name in enumerate(("a.png", "deep/er/b.bmp", ".hidden/c.png", "deep/d.JPG")):
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        format = {".png": "PNG", ".bmp": "BMP", ".JPG": "JPEG"}[(found / name).suffix]
        Image.fromarray(image_of(seed)).save(found / name, format)
    (found / "notes.txt").write_text("no image")
    (found / "script.ts").write_text("import { no } from 'film'")
    return found


def names_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_keeps_its_tree_and_each_file_its_suffix(
    upscale: Any, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert upscale(folder, "-o", out) == 0
    assert names_below(out) == ["a.png", "deep/d.JPG", "deep/er/b.bmp"] or names_below(out) == [
        "a.png", "deep/d.jpg", "deep/er/b.bmp",
    ]  # fmt: skip
    np.testing.assert_array_equal(read(out / "deep/er/b.bmp"), twice(image_of(1)))
    assert capsys.readouterr().out.startswith("3 written")
    (out / "a.png").write_bytes(b"mine")
    assert upscale(folder, "-o", out, "--skip-existing") == 0
    assert (out / "a.png").read_bytes() == b"mine"
    assert capsys.readouterr().out.startswith("0 written, 3 skipped")
    assert upscale(folder, folder / "a.png", "-o", out, "--format", "webp", "--suffix", "-x2") == 0
    assert "in/deep/er/b-x2.webp" in names_below(out)
    assert "a-x2.webp" in names_below(out)


def test_an_output_folder_inside_the_input_is_not_read_again(upscale: Any, folder: Path, capsys: Capture) -> None:
    for _ in range(2):
        assert upscale(folder, "-o", folder / "out") == 0
        assert capsys.readouterr().out.startswith("3 written")


def test_names_follow_a_pattern_and_patterns_of_the_shell_are_read(upscale: Any, folder: Path, tmp_path: Path) -> None:
    assert upscale(f"{folder}/**/*.[bJ]*", "-o", f"{tmp_path}/{{model}}/{{index}}-{{stem}}.png") == 0
    assert names_below(tmp_path / "sr") == ["0-d.png", "1-b.png"]


def test_pipes_carry_one_image(
    upscale: Any, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(image_of(1)).save(buffer, "TIFF")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(buffer.getvalue())))
    assert upscale("-", "-o", "-") == 0
    np.testing.assert_array_equal(read(io.BytesIO(capsysbinary.readouterr().out)), twice(image_of(1)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("inputs", "output", "text"),
    [
        (["a.png"], "a.png", "a.png is an input and would be overwritten; pass --suffix, another -o, or --force"),
        (["a.png", "deep/../a.png"], "out/", "would both become out/a.png"),
        (["a.png", "deep/d.JPG"], "x.png", "-o x.png is one file; for 2 inputs pass a folder"),
        (["a.png"], "no/such/x.png", "no/such: no such folder"),
        (["none.png"], "x.png", "none.png: No such file"),
        (["*.nothing"], "x.png", "*.nothing: no file matches"),
        (["-", "a.png"], "out/", "- (stdin) is one input"),
        (["a.png", "deep/d.JPG"], "-", "-o - (stdout) is for one input, got 2"),
        (["a.png"], "{steam}.png", "no field {steam}; there are stem"),
        (["a.png"], "{stem.png", "-o {stem.png:"),
        ([".hidden/.."], "x/", "x"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, inputs: list[str], output: str, text: str
) -> None:
    monkeypatch.chdir(folder)
    if text == "x":
        (folder / "empty").mkdir()
        inputs, text = ["empty"], "empty: no file with a suffix of an image or film"
    with pytest.raises(CommandError) as caught:
        plan(inputs, output, PLAIN)
    assert text in str(caught.value)
    assert names_below(folder) == [".hidden/c.png", "a.png", "deep/d.JPG", "deep/er/b.bmp", "notes.txt", "script.ts"]


def test_force_lets_an_output_take_the_place_of_its_input(upscale: Any, folder: Path) -> None:
    assert upscale(folder / "a.png", "-o", folder / "a.png", "--force") == 0
    np.testing.assert_array_equal(read(folder / "a.png"), twice(image_of(0)))


def test_one_bad_file_is_a_line_and_the_others_are_written(
    upscale: Any, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    (folder / "bad.gif").write_text("no image")
    out = tmp_path / "out"
    assert upscale(folder, "-o", out, "--json") == 3
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "bad.gif: the image: begins with 6e 6f 20 69" in captured.err
    found = json.loads(captured.out)
    assert [Path(each["input"]).name for each in found["files"]] == ["a.png", "d.JPG", "b.bmp"]
    assert [Path(each["input"]).name for each in found["failed"]] == ["bad.gif"]
    assert not [name for name in names_below(out) if "part" in name or "bad" in name]


def test_what_would_fail_alike_for_all_stops_at_once(
    upscale: Any, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert upscale(folder, "-o", tmp_path / "out", "--in-flight", 1, model="fails-NOT_FOUND") == 7
    captured = capsys.readouterr()
    assert captured.out.startswith("0 written, 1 failed, 2 not tried")
    assert captured.err.count("\n") == 1


def test_an_overloaded_server_is_called_again(
    upscale: Any, fake: Fake, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganserve.cli.media.run.FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("ganserve.cli.connect.Client", partial(Client, retries=0))  # gRPC's own take seconds
    fake.service.refusals = [Code.RESOURCE_EXHAUSTED] * 3
    assert upscale(folder, "-o", tmp_path / "out", "--in-flight", 1) == 0


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_animations_are_converted_frame_by_frame(upscale: Any, fake: Fake, tmp_path: Path, suffix: str) -> None:
    colours = [(200, 30, 60), (10, 200, 90), (200, 30, 60), (0, 0, 0)]
    first, *others = [Image.new("RGB", (16, 8), colour) for colour in colours]
    path, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    timing: dict[str, Any] = {} if suffix == ".tif" else {"duration": [100, 200, 300, 400], "loop": 2, "lossless": True}
    first.save(path, save_all=True, append_images=others, **timing)
    assert upscale(path, "-o", out) == 0
    assert len(fake.service.requests) == 3  # equal frames once
    with Image.open(out) as made:
        assert (made.size, made.n_frames) == ((32, 16), 4)  # type: ignore[attr-defined]
        shown = []
        for index, colour in enumerate(colours):
            made.seek(index)
            np.testing.assert_allclose(np.asarray(made.convert("RGB"))[9, 9], colour, atol=4)
            shown.append(made.info.get("duration"))
        assert shown == [None] * 4 if suffix == ".tif" else [100, 200, 300, 400]
    assert upscale(path, "-o", tmp_path / "still.jpg") == 2
    assert upscale(path, "-o", tmp_path / "still.jpg", "--frames", "first") == 0


def test_before_and_after_of_all_inputs_are_one_page(upscale: Any, folder: Path, tmp_path: Path) -> None:
    assert upscale(folder, "-o", tmp_path / "out", "--compare", tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count("<figure>") == 3
    assert page.count("data:image/") == 6


KEYS = (1, 1, 0, 2, 1024, 0, 1, 1, 1025, 0, 1)  # the value of GTRasterType follows


@pytest.mark.parametrize("point", [False, True])
def test_a_place_on_earth_is_that_of_the_same_ground_in_the_larger_image(point: bool) -> None:
    shift = 0.0 if point else 0.5  # where the centre of pixel 0 lies, in raster coordinates
    matrix = np.array([[10, 2, 0, 500], [1, -10, 0, 900], [0, 0, 0, 0], [0, 0, 0, 1]], np.float64)
    tags = {34735: (*KEYS, 2 if point else 1), 34264: tuple(matrix.ravel()), 42113: "0"}
    tied = {34735: tags[34735], 33550: (10.0, 20.0, 0.0), 33922: (3.0, 4.0, 0.0, 500.0, 900.0, 0.0)}
    made, made_tied = placed(tags, (4, 4)), placed(tied, (4, 4))
    assert made[42113] == "0"

    def ground(tags: dict[int, Any], i: float, j: float) -> Any:
        if 34264 in tags:
            return (np.reshape(tags[34264], (4, 4)) @ (i, j, 0, 1))[:2]
        (x, y, _), (i0, j0, _, x0, y0, _) = tags[33550], tags[33922]
        return np.array((x0 + (i - i0) * x, y0 - (j - j0) * y))

    centres = np.arange(4) + shift  # of the four pixels that the first one becomes
    for before, after in ((tags, made), (tied, made_tied)):
        middle = np.mean([ground(after, i, i) for i in centres], 0)
        np.testing.assert_allclose(middle, ground(before, shift, shift))


def test_a_geotiff_keeps_place_bands_type_and_missing_data(upscale: Any, tmp_path: Path, capsys: Capture) -> None:
    tifffile = pytest.importorskip("tifffile")
    y, x = np.mgrid[:8, :12]
    pixels = np.stack([x * 20, y * 25, x + y, x * 9], 2).astype(np.uint8)
    pixels[:2, :2] = 255
    tags = [
        (34735, 3, 12, (*KEYS, 1), True),
        (33550, 12, 3, (10.0, 10.0, 0.0), True),
        (33922, 12, 6, (0.0, 0.0, 0.0, 500.0, 900.0, 0.0), True),
        (42113, 2, None, "255", True),
    ]
    options = {"photometric": "rgb", "extrasamples": ["unspecified"], "compression": "lzw", "tile": (16, 16)}
    tifffile.imwrite(tmp_path / "in.tif", pixels, metadata=None, extratags=tags, **options)
    assert upscale(tmp_path / "in.tif", "-o", tmp_path / "out.tif") == 0
    assert "its details are invented" in capsys.readouterr().err
    cut = ("--width", "16", "--height", "16", "--fit", "cover")
    assert upscale(tmp_path / "in.tif", "-o", tmp_path / "cut.tif", *cut) == 0
    with tifffile.TiffFile(tmp_path / "cut.tif") as file:
        page = file.pages[0]
        assert page.tags.valueof(33922) == (-4.0, 0.0, 0.0, 500.0, 900.0, 0.0), "two old pixels are cut off at the left"
        assert page.tags.valueof(33550) == (5.0, 5.0, 0.0)
        np.testing.assert_array_equal(page.asarray()[:, :, :3], twice(pixels[:, 2:10, :3]))
    assert upscale(tmp_path / "in.tif", "-o", tmp_path / "strip.tif", "--metadata", "strip") == 2
    assert "--metadata strip would take its place on earth" in capsys.readouterr().err
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        page = file.pages[0]
        found = page.asarray()
        assert page.tags.valueof(33550) == (5.0, 5.0, 0.0)
        assert page.tags.valueof(33922)[3:5] == (500.0, 900.0)
        assert (found.shape, found.dtype) == ((16, 24, 4), np.uint8)
    assert (found[:4, :4] == 255).all()
    np.testing.assert_array_equal(found[4:, 4:, :3], twice(pixels)[4:, 4:, :3])
    np.testing.assert_allclose(
        found[8, 6:-4, 3], np.interp(np.arange(6, 20), np.arange(12) * 2 + 0.5, x[0] * 9), atol=1
    )


def test_the_page_lists_the_exit_codes() -> None:
    page = (Path(__file__).parents[3] / "docs/files.md").read_text()
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in page


@pytest.mark.parametrize(
    ("options", "output"),
    [
        (("--format", "png"), "out.tif"),
        (("--suffix", "-x"), "out.png"),
        (("--format", "png"), "{stem}.tif"),
        (("--suffix", "-x"), "-"),
    ],
)
def test_an_option_that_an_output_by_name_would_not_follow_is_refused(
    upscale: Any, folder: Path, tmp_path: Path, capsys: Capture, options: tuple[str, ...], output: str
) -> None:
    target = output if output == "-" else str(tmp_path / output)
    assert upscale(folder / "a.png", "-o", target, *options) == 2
    assert capsys.readouterr().err.startswith(f"ganserve: {' '.join(options).replace('png', '.png')}: ")
    assert not list(tmp_path.glob("*.tif"))


def test_a_format_is_the_same_by_either_suffix_and_films_stay_films(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.mkv").touch()
    for format, name in (("jpeg", "o.jpg"), ("tiff", "o.tif"), ("jpg", "o.jpeg"), ("png", "o.png")):
        (found,) = plan([str(tmp_path / "a.png")], str(tmp_path / name), Naming.of(format, "", "sr"))
        assert found.target == tmp_path / name
    both = plan([str(tmp_path)], str(tmp_path / "out-{stem}{suffix}"), Naming.of("webp", "", "sr"))
    assert [each.target.name for each in both if each.target] == ["out-a.webp", "out-b.mkv"]
    with pytest.raises(CommandError, match=r"--format \.jpeg: but the output is"):
        plan([str(tmp_path / "a.png")], str(tmp_path / "o.png"), Naming.of("jpeg", "", "sr"))
