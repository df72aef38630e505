"""`ganserve restore` against the fake server, which turns colours round: there a restored face is a negative."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganserve import Client
from ganserve.cli.main import main
from ganserve.client.errors import InvalidRequest
from ganserve.client.pictures import decoded
from ganserve.client.png import encode_png
from ganserve.faces.detect import Detector
from ganserve.faces.restore import Restorer
from ganserve.v1 import images_pb2 as pb
from tests.ganserve.fake_server import Fake

Capture = pytest.CaptureFixture[str]
FACE = np.s_[45:80, 48:82]  # of the astronaut


def read(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


@pytest.fixture
def restore(fake: Fake, monkeypatch: pytest.MonkeyPatch, mtcnn: Path) -> Any:
    """`restore("in.png", "-o", "out.png")`: the exit code. The detector's files are in the cache."""
    monkeypatch.setenv("GANSERVE_SERVER", fake.server)
    return lambda *arguments, model="photo": main(["restore", model, *map(str, arguments)])


def test_a_face_is_restored_where_it_is_and_the_rest_stays(
    restore: Any, fake: Fake, astronaut: Image.Image, tmp_path: Path, capsys: Capture
) -> None:
    astronaut.save(tmp_path / "in.png")
    assert restore(tmp_path / "in.png", "-o", tmp_path / "out.png", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["faces"]) == 1
    assert abs(report["faces"][0]["landmarks"][2][0] - 65) < 2
    sent = [each for each in fake.service.requests if isinstance(each, pb.TranslateRequest)]
    assert [(each.raw_width, each.raw_height, each.model) for each in sent] == [(512, 512, "photo")]
    before, after = np.asarray(astronaut).astype(int), read(tmp_path / "out.png")
    difference = np.abs(after - (255 - before))[FACE]
    assert difference.mean() < 4, "the same face, turned round: nothing is moved"
    np.testing.assert_array_equal(after[:4], before[:4])
    assert restore(tmp_path / "in.png", "-o", tmp_path / "half.png", "--strength", 0.5) == 0
    assert "faces 1" in capsys.readouterr().out
    assert np.abs(read(tmp_path / "half.png")[FACE] - 127.5).mean() < 3


def test_a_folder_has_all_kinds_of_images(
    restore: Any, astronaut: Image.Image, tmp_path: Path, capsys: Capture
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "as scanned"
    astronaut.rotate(90, expand=True).save(source / "turned.jpg", exif=exif, quality=95)
    astronaut.convert("CMYK").save(source / "inks.jpg")
    astronaut.convert("L").save(source / "grey.png", dpi=(300, 300))
    deep = np.dstack([np.asarray(astronaut).astype(np.uint16) * 257, np.full((128, 128), 7, np.uint16)])
    (source / "deep.png").write_bytes(encode_png(deep))
    astronaut.crop((0, 80, 128, 128)).save(source / "none.png")
    (source / "cut.jpg").write_bytes((source / "turned.jpg").read_bytes()[:2000])
    assert restore(source, "-o", out, "--metadata", "keep") == 3  # one of them is damaged
    said = capsys.readouterr()
    assert "none.png: no face was found" in said.err
    assert "cut.jpg: the image cannot be read" in said.err
    assert said.out.startswith("5 written, 1 failed")
    for name in ("turned.jpg", "inks.jpg", "grey.png"):
        wanted = 255 - np.asarray(Image.open(source / "grey.png")).astype(int)
        with Image.open(out / name) as image:
            assert np.abs(np.asarray(image.convert("L")).astype(int) - wanted)[FACE].mean() < 6, name
    with Image.open(out / "turned.jpg") as image:
        assert dict(image.getexif()) == {0x010E: "as scanned"}
    with Image.open(out / "grey.png") as image:
        assert (image.mode, round(image.info["dpi"][0])) == ("L", 300)
    pixels, _ = decoded(out / "deep.png")
    assert pixels.dtype == np.uint16
    assert (pixels[..., 3] == 7).all()
    np.testing.assert_array_equal(pixels[:4, :, :3], deep[:4, :, :3])
    np.testing.assert_array_equal(read(out / "none.png"), read(source / "none.png"))


def test_faces_are_put_on_an_upscaled_background(
    restore: Any, fake: Fake, astronaut: Image.Image, tmp_path: Path
) -> None:
    astronaut.save(tmp_path / "in.png")
    out = tmp_path / "out.webp"
    assert restore(tmp_path / "in.png", "-o", out, "--background", "sr", "--scale", 2, "--quality", 100) == 0
    after, before = read(out), np.asarray(astronaut).repeat(2, 0).repeat(2, 1).astype(int)
    assert after.shape == (256, 256, 3)
    assert np.abs(after[:8] - before[:8]).mean() < 3
    face = np.s_[90:160, 96:164]
    assert np.abs(after - (255 - before))[face].mean() < 12  # the fake's pixels are blocks
    upscaled = [each for each in fake.service.requests if isinstance(each, pb.UpscaleRequest)]
    assert [(each.model, each.scale) for each in upscaled] == [("sr", 2)]


def test_more_faces_than_are_sent_at_once(fake: Fake, detector: Detector, astronaut: Image.Image) -> None:
    small = astronaut.crop((20, 10, 108, 98)).resize((60, 60), Image.Resampling.LANCZOS)
    group = Image.new("RGB", (5 * 70, 4 * 70), (120, 120, 120))
    for index in range(20):
        group.paste(small, (index % 5 * 70 + 5, index // 5 * 70 + 5))
    with Client(fake.server) as client:
        served = next(each for each in client.models() if each.name == "photo")
        found = Restorer(client, detector, served).restore(group, format="raw")
        assert len(found.faces) == 20
        for face in found.faces:
            x, y = face.landmarks[2].astype(int)
            np.testing.assert_allclose(found.array[y, x], 255 - np.asarray(group)[y, x].astype(int), atol=40)
        for change in ({"task": "super-resolution"}, {"task": ""}, {"height": 256, "width": 512}):
            other: Any = type(served)(**{**served.__dict__, **change})
            with pytest.raises(InvalidRequest, match="photo: "):
                Restorer(client, detector, other)


def test_mistakes_are_one_sentence_before_the_detector_is_fetched(
    restore: Any, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganserve.cli.transform.read_detector", lambda: pytest.fail("it was fetched"))
    Image.new("RGB", (40, 40)).save(tmp_path / "in.png")
    for more, model, text, code in (
        ((), "faces", "faces: is for unconditional", 7),
        ((), "nobody", "no model 'nobody'", 7),
        ((), "broken", "broken: is UNAVAILABLE: no such file", 4),
        (("--scale", 2), "photo", "a scale is of the background", 2),
        (("--min-face", 5), "photo", "12", 2),
        (("--width", 5), "photo", "--width", 2),
    ):
        assert restore(tmp_path / "in.png", "-o", tmp_path / "out.png", *more, model=model) == code
        assert text in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()
