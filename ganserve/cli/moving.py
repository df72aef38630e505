"""Frames into a file that moves: WebP, GIF, APNG, AVIF, MP4; or into numbered PNGs."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganserve.cli.media.write import written_whole
from ganserve.cli.output import CommandError, needing
from ganserve.client.encode import encode, encode_frames

SUFFIXES = (".webp", ".gif", ".png", ".apng", ".avif", ".mp4")
CRF = "18"
# GIF counts hundredths of a second, and viewers slow down what is faster than 2.
GIF_STEP_MS = 10
GIF_LEAST_MS = 20


def write_moving(frames: Sequence[NDArray[np.uint8]], output: Path, fps: float, quality: int | None) -> None:
    """Writes the frames (H, W, C) by the file's suffix, for ever repeated where the format can; into a folder as
    0000.png, 0001.png, ...

    Raises:
        CommandError: MP4 without the extra for it.
        ValueError: the format cannot hold the frames.
    """
    if output.is_dir():
        for number, frame in enumerate(frames):
            with written_whole(output / f"{number:04}.png") as path:
                path.write_bytes(encode(frame, ".png", quality=quality))
        return
    suffix = output.suffix.lower()
    with written_whole(output) as path:
        if suffix == ".mp4":
            _write_film(frames, path, fps)
            return
        path.write_bytes(encode_frames(frames, _still(suffix), quality=quality, **_timing(suffix, len(frames), fps)))


def _still(suffix: str) -> str:
    return ".png" if suffix == ".apng" else suffix


def _timing(suffix: str, n: int, fps: float) -> dict[str, Any]:
    """Pillow's words for how long each frame is shown: whole milliseconds whose sum is right."""
    step = GIF_STEP_MS if suffix == ".gif" else 1
    ends = [round(1000 / fps * (number + 1) / step) * step for number in range(n)]
    durations = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    if suffix == ".gif" and min(durations) < GIF_LEAST_MS:
        raise CommandError(f"--fps {fps:g}: a GIF shows at most {1000 / GIF_LEAST_MS:g} frames a second")
    found: dict[str, Any] = {"duration": durations, "loop": 0}
    return {**found, "disposal": 2} if suffix == ".gif" else found


def _write_film(frames: Sequence[NDArray[np.uint8]], path: Path, fps: float) -> None:
    """H.264, which every player takes with even sides; odd ones need full colour."""
    with needing("video"):
        import av
    height, width, channels = frames[0].shape
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": CRF})
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        for pixels in frames:
            colours = np.ascontiguousarray(pixels[:, :, :3] if channels >= 3 else pixels[:, :, :1].repeat(3, axis=2))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(colours, format="rgb24")))
        container.mux(stream.encode(None))
