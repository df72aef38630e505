"""Films: colours, time stamps and everything else of the source are in the result; a stopped run goes on."""

import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av")

from ganserve.cli.main import main  # noqa: E402
from tests.ganserve.cli.clips import add_subtitles, levels, moving, read_film, write_clip  # noqa: E402
from tests.ganserve.fake_server import Fake  # noqa: E402

Capture = pytest.CaptureFixture[str]
FAST = ("--preset", "ultrafast", "--crf", "0")


@pytest.fixture
def upscale(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`upscale("in.mkv", "-o", "out.mkv")`: the exit code; the fake server doubles each frame."""
    monkeypatch.setenv("GANSERVE_SERVER", fake.server)
    return lambda *arguments, model="sr", command="upscale": main([command, model, *map(str, arguments)])


FLAT = (100, 90, 180)
CASES = {
    "709, limited": ((1, 1, 1, 1), FLAT, "yuv420p"),
    "601, limited": ((6, 6, 6, 1), FLAT, "yuv420p"),
    "601, full": ((5, 6, 5, 2), FLAT, "yuv420p"),
    "2020, 10 bits": ((9, 16, 9, 1), (400, 360, 720), "yuv420p10le"),
}


@pytest.mark.parametrize("case", CASES)
def test_colours_and_tags_come_back_as_they_were(upscale: Any, fake: Fake, tmp_path: Path, case: str) -> None:
    tags, flat, pixel_format = CASES[case]
    write_clip(
        tmp_path / "in.mkv", [flat] * 3, codec="libx264", pixel_format=pixel_format, tags=tags, options={"crf": "0"}
    )
    assert upscale(tmp_path / "in.mkv", "-o", tmp_path / "out.mkv", *FAST) == 0
    assert len(fake.service.requests) == 2  # models, and one of three equal frames
    frame = read_film(tmp_path / "out.mkv")[0]
    assert frame.format.name.replace("yuvj", "yuv") == pixel_format
    assert (frame.color_primaries, frame.color_trc, int(frame.colorspace), frame.color_range) == tags
    np.testing.assert_allclose(levels(frame), flat, atol=1)


def test_what_the_server_sees_follows_the_films_own_matrix(upscale: Any, fake: Fake, tmp_path: Path) -> None:
    seen = []
    for name, tags in (("709", (1, 1, 1, 1)), ("601", (6, 6, 6, 1)), ("none", None)):
        path = tmp_path / f"{name}.mkv"
        write_clip(path, [FLAT], pixel_format="yuv444p", tags=tags)
        assert upscale(path, "-o", tmp_path / "out.mkv", "--codec", "ffv1") == 0
        request = fake.service.requests[-1]
        seen.append(tuple(np.frombuffer(request.image, np.uint8)[:3]))
    y, u, v = (100 - 16) / 219, (90 - 128) / 224, (180 - 128) / 224
    by_709 = np.array([y + 1.5748 * v, y - 0.1873 * u - 0.4681 * v, y + 1.8556 * u]) * 255
    by_601 = np.array([y + 1.402 * v, y - 0.3441 * u - 0.7141 * v, y + 1.772 * u]) * 255
    np.testing.assert_allclose(seen, [by_709, by_601, by_601], atol=1)
    frame = read_film(tmp_path / "out.mkv")[0]  # of the untagged one: tagged now, by its size
    assert (frame.color_primaries, int(frame.colorspace), frame.color_range) == (6, 6, 1)


def test_odd_sides_are_cut_where_the_pixel_format_needs_even_ones(
    upscale: Any, tmp_path: Path, capsys: Capture
) -> None:
    write_clip(tmp_path / "in.mkv", [moving(0, 63, 47)])
    options = ("--pixel-format", "yuv420p", *FAST)
    assert upscale(tmp_path / "in.mkv", "-o", tmp_path / "out.mkv", *options, command="translate", model="photo") == 0
    assert "cut from 63 x 47 to 62 x 46 px" in capsys.readouterr().err
    assert (frame := read_film(tmp_path / "out.mkv")[0]).width == 62
    assert frame.height == 46


def test_containers_without_time_stamps_become_mkv_unless_asked_for(
    upscale: Any, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in/film.avi", [moving(0), moving(1), moving(2)])
    assert upscale(tmp_path / "in", "-o", tmp_path / "out", *FAST) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["film.mkv"]
    write_clip(tmp_path / "in.mkv", [moving(index) for index in range(12)], extras=True)
    assert upscale(tmp_path / "in.mkv", "-o", tmp_path / "out.avi") == 0
    assert len(read_film(tmp_path / "out.avi")) == 12
    with av.open(str(tmp_path / "out.avi")) as container:
        stream = container.streams.video[0]
        places = [packet.dts for packet in container.demux(stream) if packet.dts is not None]
        assert (places, stream.average_rate) == (list(range(12)), 25), "AVI has no time stamps but places"
    heard = [b"".join(data for _, data in packets(tmp_path / name, "audio")) for name in ("in.mkv", "out.avi")]
    assert heard[0] == heard[1]
    write_clip(tmp_path / "uneven.mkv", [moving(index) for index in range(3)], [0, 40, 120])
    assert upscale(tmp_path / "uneven.mkv", "-o", tmp_path / "uneven.avi") == 2
    assert "its frames are not evenly spaced in time, which .avi cannot hold" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_part_of_a_film_begins_at_0_with_its_sound(upscale: Any, fake: Fake, tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / "whole.mkv"
    write_clip(whole, [moving(index) for index in range(25)], extras=True)
    out = tmp_path / f"out{suffix}"
    sound = () if suffix == ".mkv" else ("--codec", "hevc", "--preset", "ultrafast")
    if suffix == ".mp4":  # PCM is no sound of MP4
        write_clip(whole, [moving(index) for index in range(25)])
    assert upscale(whole, "-o", out, "--start", "0:00.2", "--end", "0.4", *(sound or FAST)) == 0
    assert len(fake.service.requests) == 1 + 5
    times = [float(frame.pts * frame.time_base) for frame in read_film(out)]
    assert times == pytest.approx([0, 0.04, 0.08, 0.12, 0.16], abs=0.002)
    if suffix == ".mkv":
        heard = packets(out, "audio")
        assert heard[0][0] >= Fraction(-1, 2)
        assert heard[-1][0] < Fraction(2, 5)
        with av.open(str(out)) as container:
            assert not container.chapters(), "it ended where the part begins"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--start", "later"), "--start later: must be seconds, minutes:seconds or hours:minutes:seconds"),
        (("--start", "5", "--end", "0:05"), "--end 0:05: is not after --start 5"),
        (("--start", "90"), "it has no frame from 90 s on"),
        (("--metadata", "strip"), "--metadata strip: is for images; films keep theirs"),
    ],
)
def test_parts_that_are_not_there_are_refused(
    upscale: Any, tmp_path: Path, capsys: Capture, options: tuple[str, ...], text: str
) -> None:
    write_clip(tmp_path / "in.mkv", [moving(0)])
    assert upscale(tmp_path / "in.mkv", "-o", tmp_path / "out.mkv", *options) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_every_time_stamp_rotation_and_aspect_are_kept(upscale: Any, tmp_path: Path, suffix: str) -> None:
    times = [0, 40, 120, 121, 300, 340, 400, 900]
    source, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    frames = [moving(index) for index in range(len(times))]
    write_clip(source, frames, times, codec="libx264", pixel_format="yuv420p", aspect=Fraction(16, 15), rotation=90)
    assert upscale(source, "-o", out, "--crf", 10) == 0  # medium: with frames that are decoded out of order
    before, after = read_film(source), read_film(out)
    assert [each.pts * each.time_base for each in after] == [each.pts * each.time_base for each in before]
    assert (after[0].width, after[0].height) == (128, 96)
    assert after[0].rotation == before[0].rotation == 90
    with av.open(str(out)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 15)


def packets(path: Path, kind: str) -> list[tuple[Any, bytes]]:
    with av.open(str(path)) as container:
        stream = next(each for each in container.streams if each.type == kind)
        return [(each.pts * each.time_base, bytes(each)) for each in container.demux(stream) if each.pts is not None]


def test_sound_subtitles_fonts_chapters_and_metadata_are_copied(upscale: Any, tmp_path: Path, capsys: Capture) -> None:
    write_clip(tmp_path / "film.mkv", [moving(index) for index in range(5)], extras=True)
    add_subtitles(tmp_path / "film.mkv", tmp_path / "in.mkv")
    out = tmp_path / "out.mkv"
    assert upscale(tmp_path / "in.mkv", "-o", out, *FAST, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["frames"], report["computed"], report["width"]) == (5, 5, 128)
    for kind in ("audio", "subtitle"):
        assert packets(out, kind) == packets(tmp_path / "in.mkv", kind)
    with av.open(str(out)) as container:
        assert container.metadata["title"] == "a small film"
        assert [chapter["metadata"] for chapter in container.chapters()] == [{"title": "one"}]
        languages = {stream.type: stream.metadata.get("language") for stream in container.streams}
        assert (languages["video"], languages["subtitle"]) == ("nob", "eng")
        assert [stream.data for stream in container.streams if stream.type == "attachment"] == [b"no real font"]
    assert upscale(tmp_path / "in.mkv", "-o", tmp_path / "out.mp4") == 2
    assert "stream 1 (audio, pcm_s16le)" in (error := capsys.readouterr().err), "it is looked at when the file ends"
    assert "cannot be in a .mp4 file" in error
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == ["out.mkv"]


def combed(first: int, second: int) -> Any:
    """Two moments, in the even and the odd rows of one frame."""
    frame = moving(first)
    frame[1::2] = moving(second)[1::2]
    return frame


def difference_of_rows(path: Path) -> float:
    """How much neighbouring rows differ, in levels, over all frames."""
    grey = [np.asarray(frame.to_ndarray(format="gray"), np.float32)[::2] for frame in read_film(path)]
    return float(np.mean([np.abs(np.diff(each, axis=0)).mean() for each in grey]))


def test_interlaced_frames_are_made_whole_before_the_network(upscale: Any, tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    write_clip(source, [combed(2 * index, 2 * index + 1) for index in range(12)], codec="mpeg2video",
               pixel_format="yuv420p", interlaced=True, options={"qmin": "1", "qmax": "1"})  # fmt: skip
    found = {}
    for wanted in ("off", "auto", "on"):
        out = tmp_path / f"{wanted}.mkv"
        assert upscale(source, "-o", out, "--deinterlace", wanted, *FAST) == 0
        found[wanted] = difference_of_rows(out)
        assert [frame.pts for frame in read_film(out)] == [frame.pts for frame in read_film(source)]
    assert found["auto"] < found["off"] / 1.5
    assert found["on"] < found["off"] / 1.5


def test_progressive_films_are_left_as_they_are(upscale: Any, tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mkv", [moving(index) for index in range(12)])
    for wanted in ("off", "auto"):
        assert upscale(tmp_path / "in.mkv", "-o", tmp_path / f"{wanted}.mkv", "--deinterlace", wanted, *FAST) == 0
    a, b = ([frame.to_ndarray().tobytes() for frame in read_film(tmp_path / f"{name}.mkv")] for name in ("off", "auto"))
    assert a == b


LONG = [2000 * index for index in range(30)]  # a minute: three pieces
KILLED = """
import os, signal, sys
from ganserve.cli.media.film.encoding import Chosen
from ganserve.cli.main import main

write, pieces = Chosen.write, []

def until_killed(frames):
    for n, frame in enumerate(frames):
        if n == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield frame

def watched(self, path, frames, **options):
    pieces.append(path)
    return write(self, path, until_killed(frames) if len(pieces) == 2 else frames, **options)

Chosen.write = watched
sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_run_goes_on_where_it_was_stopped(upscale: Any, fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    source, out = tmp_path / "in.mkv", tmp_path / "out.mkv"
    write_clip(source, [moving(index) for index in range(30)], LONG)
    assert upscale(source, "-o", tmp_path / "whole.mkv", *FAST) == 0
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "upscale", "sr", str(source), "-o", str(out), *FAST],
        env={**os.environ, "GANSERVE_SERVER": fake.server},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert (tmp_path / ".out.mkv.parts/00000.piece").exists()
    capsys.readouterr()
    assert upscale(source, "-o", out, *FAST, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["resumed_at_s"], report["frames"], report["computed"]) == (20, 20, 20)
    assert [frame.pts for frame in read_film(out)] == LONG
    a, b = ([frame.to_ndarray().tobytes() for frame in read_film(path)] for path in (out, tmp_path / "whole.mkv"))
    assert a == b
    assert not (tmp_path / ".out.mkv.parts").exists()


def test_films_are_translated_and_black_and_white_models_get_grey(upscale: Any, fake: Fake, tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mkv", [moving(0)])
    assert upscale(tmp_path / "in.mkv", "-o", tmp_path / "out.mkv", model="sketch", command="translate") == 0
    request = fake.service.requests[-1]
    assert len(request.image) == request.raw_width * request.raw_height == 64 * 48
    assert read_film(tmp_path / "out.mkv")[0].width == 64


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--codec", "xvid"), "--codec xvid: there are h264, hevc"),
        (("--codec", "ffv1", "--crf", "3"), "--crf: ffv1 has no such quality"),
        (("--codec", "ffv1", "--preset", "slow"), "--preset: ffv1 has none"),
        (("--pixel-format", "rgb24"), "--pixel-format rgb24: h264 has yuv420p"),
        (("-o", "out.png"), "the output of a film has one of the suffixes .mkv"),
        (("-o", "-"), "not a pipe"),
    ],
)
def test_what_no_film_can_be_is_refused_before_a_frame_is_sent(
    upscale: Any, fake: Fake, tmp_path: Path, capsys: Capture, options: tuple[str, ...], text: str
) -> None:
    write_clip(tmp_path / "in.mkv", [moving(0)])
    assert upscale(tmp_path / "in.mkv", "-o", tmp_path / "out.mkv", *options) == 2
    assert text in capsys.readouterr().err
    assert not [request for request in fake.service.requests if hasattr(request, "image")]
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_what_is_no_film_is_a_sentence(upscale: Any, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "in.mkv").write_text("no film")
    assert upscale(tmp_path / "in.mkv", "-o", tmp_path / "out.mkv") == 2
    assert "in.mkv: no film that can be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format"),
    [
        (".webm", "vp9", "yuv420p"),
        (".mp4", "av1", "yuv420p10le"),
        (".mkv", "hevc", "yuv420p10le"),
        (".mov", "prores", "yuv422p10le"),
    ],
)
def test_codecs_and_ten_bits_can_be_chosen(
    upscale: Any, tmp_path: Path, suffix: str, codec: str, pixel_format: str
) -> None:
    write_clip(tmp_path / "in.mkv", [FLAT] * 2)
    out = tmp_path / f"out{suffix}"
    assert upscale(tmp_path / "in.mkv", "-o", out, "--codec", codec, "--pixel-format", pixel_format) == 0
    frame = read_film(out)[0]
    assert frame.format.name == pixel_format
    unit = 4 if "10" in pixel_format else 1
    np.testing.assert_allclose(levels(frame), np.array(FLAT) * unit, atol=2 * unit)
