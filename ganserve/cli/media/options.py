"""The options of `ganserve upscale` and `translate` that say which files are read and written."""

import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from ganserve.cli.output import CommandError
from ganserve.cli.parsing import parse_labels
from ganserve.client.errors import InvalidRequest
from ganserve.client.pictures import encoded


class Alpha(StrEnum):
    """What happens to the alpha channel."""

    KEEP = "keep"
    DROP = "drop"


class Deinterlace(StrEnum):
    """Which films are deinterlaced: auto, those that are marked or look so."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True)
class FilmOptions:
    """What the options for films ask for; None: the default."""

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pixel_format: str | None = None
    deinterlace: str = "auto"
    start_s: Fraction = Fraction(0)
    end_s: Fraction | None = None


class Frames(StrEnum):
    """Which frames of an animation."""

    ALL = "all"
    FIRST = "first"


class Fit(StrEnum):
    """What becomes of an image of another ratio than --width and --height."""

    CONTAIN = "contain"
    COVER = "cover"
    FILL = "fill"


class Resample(StrEnum):
    """How the network's image is brought to the size."""

    LANCZOS = "lanczos"
    AREA = "area"


class Metadata(StrEnum):
    """What of the input's metadata outputs have."""

    ICC = "icc"
    KEEP = "keep"
    STRIP = "strip"


ResampleOption = Annotated[
    Resample | None,
    typer.Option(
        "--resample", help="To the size asked for: lanczos (default), or area, without ringing, to a smaller one."
    ),
]
TtaOption = Annotated[
    bool,
    typer.Option("--tta", help="The mean of the image flipped and turned in eight ways: better, eight times the work."),
]
MetadataOption = Annotated[
    Metadata | None,
    typer.Option(
        "--metadata",
        help="Of images: icc (default) keeps colour profile and DPI, keep also EXIF, XMP, IPTC and texts, strip none.",
    ),
]
ScaleOption = Annotated[
    float | None,
    typer.Option("--scale", help="Times that it is enlarged, such as 2, 3 or 1.5 (default: the model's own scale)."),
]
WidthOption = Annotated[int | None, typer.Option("--width", help="Of the result, px; alone, the height follows.")]
HeightOption = Annotated[int | None, typer.Option("--height", help="Of the result, px; alone, the width follows.")]
FitOption = Annotated[
    Fit | None,
    typer.Option(
        "--fit", help="With --width and --height: contain (default) fits into them, cover cuts off the rest, fill "
        "stretches.",
    ),
]  # fmt: skip
AttributesOption = Annotated[
    str | None,
    typer.Option(
        "--label", "--labels",
        help="Attributes that the image shall have, and no others, such as Blond_Hair,Male or 1,3; '' for none of "
        "them. Of models with domains (StarGAN v2): the one that it shall be in.",
    ),
]  # fmt: skip
StyleSeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=2**32 - 1, help="Of the style in the domain that --label names (StarGAN v2)."),
]
ReferenceOption = Annotated[
    Path | None,
    typer.Option("--reference", metavar="IMG", help="Image in the domain that --label names, whose style is wanted."),
]
BackgroundOption = Annotated[
    str,
    typer.Option("--background", metavar="MODEL", help="Upscaler for the rest of the image (default: left as it is)."),
]
LeastFaceOption = Annotated[
    int, typer.Option("--min-face", min=12, max=4096, metavar="PX", help="Side of the smallest face that is restored.")
]
StrengthOption = Annotated[
    float, typer.Option("--strength", min=0, max=1, help="How much of restored faces is seen: 0 nothing, 1 all.")
]
InputsArgument = Annotated[
    list[str], typer.Argument(metavar="IN...", help="Files, folders, patterns such as '*.jpg', or - for stdin.")
]
OutputOption = Annotated[
    str,
    typer.Option(
        "--output", "-o", metavar="OUT",
        help="File, folder, pattern such as 'out/{stem}-large.png' (stem, name, suffix, folder, index, model), or - "
        "for stdout.",
    ),
]  # fmt: skip
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", help="Suffix of outputs in a folder, such as png, jpg or tif (default: that of each input)."
    ),
]
SuffixOption = Annotated[str, typer.Option("--suffix", metavar="TEXT", help="Added to names of outputs in a folder.")]
FramesOption = Annotated[Frames, typer.Option("--frames", help="Of animations (GIF, APNG, WebP) and pages of a TIFF.")]
SkipOption = Annotated[
    bool, typer.Option("--skip-existing", help="Leave outputs that exist: goes on where an earlier run was stopped.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Allow an output to take the place of an input.")]
InFlightOption = Annotated[int, typer.Option("--in-flight", min=1, max=64, help="Images that are sent at a time.")]
CompareOption = Annotated[
    Path | None,
    typer.Option("--compare", metavar="FILE", help="Also write an HTML page with before and after, with a slider."),
]
CodecOption = Annotated[
    str | None, typer.Option("--codec", help="Of films: h264 (default), hevc, av1, vp9, prores or ffv1.")
]
CrfOption = Annotated[
    int | None, typer.Option("--crf", min=0, max=63, help="Quality of films, less is better (default: 18 of h264).")
]
PresetOption = Annotated[str | None, typer.Option("--preset", help="Speed of the film's encoder (default: medium).")]
PixelFormatOption = Annotated[
    str | None,
    typer.Option("--pixel-format", help="Of films, such as yuv420p10le for 10 bits (default: like the input's)."),
]
StartOption = Annotated[
    str | None, typer.Option("--start", metavar="TIME", help="Of films, where to begin: seconds, 1:30 or 0:01:30.5.")
]
EndOption = Annotated[str | None, typer.Option("--end", metavar="TIME", help="Of films, where to end, likewise.")]
DeinterlaceOption = Annotated[Deinterlace, typer.Option("--deinterlace", help="Of films.")]


def read_range(start: str | None, end: str | None) -> tuple[Fraction, Fraction | None]:
    """--start and --end in seconds.

    Raises:
        CommandError: no times, or an end that is not after the start.
    """
    found = {name: _seconds(name, text) for name, text in (("--start", start), ("--end", end)) if text is not None}
    first, last = found.get("--start", Fraction(0)), found.get("--end")
    if last is not None and last <= first:
        raise CommandError(f"--end {end}: is not after --start {start or 0}")
    return first, last


def _seconds(name: str, text: str) -> Fraction:
    parts = text.split(":")
    if len(parts) > 3 or not all(re.fullmatch(r"\d{1,9}(\.\d{1,9})?", each) for each in parts):
        raise CommandError(f"{name} {text}: must be seconds, minutes:seconds or hours:minutes:seconds")
    total = Fraction(0)
    for each in parts:
        total = total * 60 + Fraction(each)
    return total


def _read_labels(text: str | None) -> list[str] | None:
    if not text:
        return None if text is None else [""]
    try:
        return parse_labels(text)
    except ValueError as error:
        raise CommandError(f"--label: {error}") from None


def read_guidance(labels: str | None, seed: int | None, reference: Path | None) -> dict[str, Any]:
    """The client's options for --label, --seed and --reference, whose file is read once.

    Raises:
        CommandError: labels with an empty part or a range that runs backwards, a seed and a reference, or a reference
            that cannot be read as an image.
    """
    found: dict[str, Any] = {"labels": _read_labels(labels), "seed": seed}
    if reference is None:
        return found
    if seed is not None:
        raise CommandError(f"--seed {seed} and --reference {reference}: a style comes from one of them")
    try:
        return {**found, "reference": encoded(reference)}
    except (OSError, InvalidRequest) as error:
        raise CommandError(f"--reference {reference}: {error}") from None
