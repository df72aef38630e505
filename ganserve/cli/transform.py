"""`ganserve upscale`, `translate` and `restore`: image files through a running server into other files."""

import inspect
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ganserve.cli.connect import (
    DEADLINE_S,
    SERVER,
    ApiKeyOption,
    AuthorityOption,
    DeadlineOption,
    JsonOption,
    ServerOption,
    connect,
    served_model,
)
from ganserve.cli.files import ModelArgument, QualityOption, VersionOption, describe_timings, facts_of
from ganserve.cli.media.image import ImageConverter, Made, Result
from ganserve.cli.media.options import (
    Alpha,
    AttributesOption,
    BackgroundOption,
    CodecOption,
    CompareOption,
    CrfOption,
    Deinterlace,
    DeinterlaceOption,
    EndOption,
    FilmOptions,
    FitOption,
    ForceOption,
    FormatOption,
    Frames,
    FramesOption,
    HeightOption,
    InFlightOption,
    InputsArgument,
    LeastFaceOption,
    Metadata,
    MetadataOption,
    OutputOption,
    PixelFormatOption,
    PresetOption,
    ReferenceOption,
    ResampleOption,
    ScaleOption,
    SkipOption,
    StartOption,
    StrengthOption,
    StyleSeedOption,
    SuffixOption,
    TtaOption,
    WidthOption,
    read_guidance,
    read_range,
)
from ganserve.cli.media.page import Page
from ganserve.cli.media.plan import PIPE, Conversion, Naming, plan
from ganserve.cli.media.run import Summary, patiently, run
from ganserve.cli.output import CommandError, needing, print_json, steps, tiles_done
from ganserve.client.client import Client
from ganserve.client.formats import FormatName
from ganserve.client.results import Upscaled
from ganserve.faces.detect import Detector
from ganserve.faces.restore import Restored, Restorer, require_for_faces

if TYPE_CHECKING:
    from ganserve.cli.media.film.convert import FilmConverter, FilmReport


@dataclass(frozen=True)
class Reporter:
    """What is printed of each file, and kept of it."""

    as_json: bool
    to_stdout: bool
    alone: bool
    page: Page

    def report(self, conversion: Conversion, made: Made) -> dict[str, Any]:
        """Of one file; printed at once if it is the only one."""
        self.page.add(conversion, made)
        result = made.result
        tiles = {"tiles": result.tiles} if isinstance(result, Upscaled) else {}
        faces = result.faces if isinstance(result, Restored) else ()
        facts = facts_of(result.model, result.version, result.batch_size, result.timings)
        target = str(conversion.target or "-")
        size = {"width": result.width, "height": result.height}
        frames = {"frames": made.frames} if made.frames > 1 else {}
        for note in (made.note, *result.warnings):
            if note:
                print(f"ganserve: {conversion}: {note}", file=sys.stderr)
        if self.alone and not self.as_json:
            counts = {**frames, **tiles, **({"faces": len(faces)} if faces else {}), "batch": result.batch_size}
            line = "  ".join(f"{name} {count}" for name, count in counts.items())
            text = f"{target}  {result.width}x{result.height}  {line}  {describe_timings(result.timings)}"
            print(text, file=sys.stderr if self.to_stdout else sys.stdout)
        found = {"faces": [each.facts for each in faces]} if isinstance(result, Restored) else {}
        return {**facts, "input": str(conversion), "file": target, **size, **tiles, **frames, **found}

    def report_film(self, conversion: Conversion, made: "FilmReport") -> dict[str, Any]:
        """Of one film; printed at once if it is the only input."""
        for note in made.notes:
            print(f"ganserve: {conversion}: {note}", file=sys.stderr)
        if self.alone and not self.as_json:
            resumed = f", gone on from {made.resumed_at_s:g} s" if made.resumed_at_s else ""
            counts = f"frames {made.frames}  computed {made.computed}{resumed}"
            print(f"{conversion.target}  {made.width}x{made.height}  {counts}")
        return {"input": str(conversion), "file": str(conversion.target), **made.facts}

    def end(self, summary: Summary) -> int:
        """The exit code, after the summary."""
        self.page.write()
        if self.alone and not summary.skipped:
            if self.as_json and summary.reports and not self.to_stdout:
                print_json(summary.reports[0])
        elif self.as_json:
            failed = [{"input": str(each), "error": str(error)} for each, error in summary.failures]
            counts = {"skipped": summary.skipped, "left": summary.left, "seconds": summary.seconds}
            print_json({"files": summary.reports, "failed": failed, **counts})
        else:
            print(summary, file=sys.stderr if self.to_stdout else sys.stdout)
        return summary.exit_code


@dataclass(frozen=True)
class Sending:
    """How images are sent: at most so many at a time, again while the server is overloaded if there are several."""

    client: Client
    call: Callable[..., Result]  # of a picture and options
    model: str
    options: Mapping[str, Any]
    places: threading.Semaphore
    patience_s: float
    stopped: threading.Event = field(default_factory=threading.Event)

    def send(self, image: Any, format: FormatName, quality: int | None, **changes: Any) -> Result:
        """The call's result."""
        with self.places:
            if self.stopped.is_set():
                raise CommandError("stopped")
            options: Any = {**self.options, "format": format, "quality": quality, **changes}
            result: Result = patiently(lambda: self.call(image, **options), self.patience_s, self.stopped)
            return result

    def stop(self) -> None:
        """Ends the calls that run; no further one begins."""
        self.stopped.set()
        self.client.close()

    def takes_grey(self) -> bool:
        """Whether the model takes grey images only."""
        version = self.options.get("version")
        found = [each for each in self.client.models() if each.name == self.model and version in ("", each.version)]
        return bool(found) and found[-1].input_channels == 1


def _upscale_options(
    scale: ScaleOption = None,
    width: WidthOption = None,
    height: HeightOption = None,
    fit: FitOption = None,
    resample: ResampleOption = None,
    tta: TtaOption = False,
) -> dict[str, Any]:
    return {"scale": scale, "width": width, "height": height, "fit": fit, "resample": resample, "tta": tta}


def _translate_options(
    labels: AttributesOption = None,
    seed: StyleSeedOption = None,
    reference: ReferenceOption = None,
    tta: TtaOption = False,
) -> dict[str, Any]:
    return {**read_guidance(labels, seed, reference), "tta": tta}


def _restore_options(
    background: BackgroundOption = "",
    scale: ScaleOption = None,
    min_face: LeastFaceOption = 20,
    strength: StrengthOption = 1.0,
) -> dict[str, Any]:
    if scale is not None and not background:
        raise CommandError("a scale is of the background: name an upscaler for it (--background)")
    return {"background": background, "scale": scale, "least_px": min_face, "strength": strength}


def _command(name: str, help: str, alpha_help: str, own_options: Callable[..., dict[str, Any]]) -> Callable[..., int]:
    """A subcommand, with the parameters of `own_options`, which reads them, beside those that all have."""

    def transform(
        model: ModelArgument,
        inputs: InputsArgument,
        output: OutputOption,
        format: FormatOption = None,
        suffix: SuffixOption = "",
        frames: FramesOption = Frames.ALL,
        skip_existing: SkipOption = False,
        force: ForceOption = False,
        compare: CompareOption = None,
        in_flight: InFlightOption = 8,
        alpha: Annotated[Alpha, typer.Option(help=alpha_help)] = Alpha.KEEP,
        metadata: MetadataOption = None,
        quality: QualityOption = None,
        version: VersionOption = "",
        server: ServerOption = SERVER,
        deadline: DeadlineOption = DEADLINE_S,
        ca: AuthorityOption = None,
        api_key_file: ApiKeyOption = None,
        codec: CodecOption = None,
        crf: CrfOption = None,
        preset: PresetOption = None,
        pixel_format: PixelFormatOption = None,
        deinterlace: DeinterlaceOption = Deinterlace.AUTO,
        start: StartOption = None,
        end: EndOption = None,
        as_json: JsonOption = False,
        **own: Any,
    ) -> int:
        conversions = plan(inputs, output, Naming.of(format, suffix, model), force=force)
        options: dict[str, Any] = {"alpha": alpha, "version": version, "metadata": _policy(metadata, conversions)}
        asked = own_options(**own)
        film = FilmOptions(codec, crf, preset, pixel_format, deinterlace.value, *read_range(start, end))
        films = any(each.is_film for each in conversions)
        reporter = Reporter(as_json, output == PIPE, len(conversions) == 1, Page(compare, len(conversions), films))
        is_long = name == "upscale" and reporter.alone and not films  # one image, which may take minutes
        with connect(server, deadline, ca, api_key_file) as client, tiles_done(is_long) as on_progress:
            sends = _call(name, client, model, version, asked)
            if is_long:
                sends = partial(client.upscale_stream, model, on_progress=on_progress)
            options |= {} if name == "restore" else asked
            patience_s = deadline if films or not reporter.alone else 0
            sending = Sending(client, sends, model, options, threading.Semaphore(in_flight), patience_s)
            images = ImageConverter(sending.send, model, frames is Frames.ALL, quality, in_flight, options)
            facts = {"call": name, **asked}
            convert = _converter(images, _film_converter(sending, film, in_flight, facts) if films else None, reporter)
            summary = run(conversions, convert, in_flight=in_flight, skip_existing=skip_existing, stop=sending.stop)
            return reporter.end(summary)

    transform.__name__, transform.__doc__ = name, help
    return _joined(transform, own_options)


def _call(name: str, client: Client, model: str, version: str, asked: Mapping[str, Any]) -> Callable[..., Any]:
    """What is called with a picture and options."""
    if name == "restore":
        served = served_model(client, model, version)
        require_for_faces(served)
        return Restorer(client, read_detector(), served, **asked).restore
    return partial(client.translate if name == "translate" else client.upscale, model)


def _joined(function: Callable[..., int], own_options: Callable[..., Any]) -> Callable[..., int]:
    """The function as if it had the other's parameters in place of `**own`."""
    signature = inspect.signature(function)
    *shared, _ = signature.parameters.values()
    own = inspect.signature(own_options).parameters.values()
    function.__signature__ = signature.replace(parameters=[*shared[:10], *own, *shared[10:]])  # type: ignore[attr-defined]
    return function


def _policy(asked: Metadata | None, conversions: Sequence[Conversion]) -> Metadata:
    """What of images' metadata is kept.

    Raises:
        CommandError: films are among them, which keep theirs.
    """
    if asked is not None and any(each.is_film for each in conversions):
        raise CommandError(f"--metadata {asked}: is for images; films keep theirs")
    return asked or Metadata.ICC


def _film_converter(
    sending: Sending, options: FilmOptions, in_flight: int, asked: Mapping[str, Any]
) -> "FilmConverter":
    with needing("video"):
        from ganserve.cli.media.film.convert import FilmConverter
    facts = {"model": sending.model, **asked, **sending.options}
    return FilmConverter(sending.send, sending.takes_grey(), options, in_flight, facts)


def _converter(
    images: ImageConverter, films: "FilmConverter | None", reporter: Reporter
) -> Callable[[Conversion], dict[str, Any]]:
    """Converts one input and reports it; films one at a time."""
    one_film = threading.Lock()

    def convert(conversion: Conversion) -> dict[str, Any]:
        if films is None or not conversion.is_film:
            return reporter.report(conversion, images.convert(conversion))
        with one_film:
            return reporter.report_film(conversion, films.convert(conversion))

    return convert


def read_detector() -> Detector:
    """What finds faces, fetched first if it is not in the cache.

    Raises:
        CommandError: it cannot be had.
    """
    from models.zoo.entries import MTCNN, MTCNN_FOLDER
    from models.zoo.fetch import ZooError, unpacked

    try:
        with steps() as progress:
            return Detector.read(unpacked(MTCNN, progress=progress) / MTCNN_FOLDER)
    except ZooError as error:
        raise CommandError(str(error)) from None


upscale = _command(
    "upscale",
    "Enlarges images with a super-resolution model: files, folders, animations, GeoTIFFs.",
    "keep: enlarge the alpha channel too; drop: remove it.",
    _upscale_options,
)
translate = _command(
    "translate",
    "Turns images into others of the same size with an image-to-image model. Accepts any size.",
    "keep: return the alpha channel unchanged; drop: remove it.",
    _translate_options,
)
restore = _command(
    "restore",
    "Restores the faces in photographs with a model for aligned faces, such as GFPGAN: finds each, turns it upright, "
    "sends it and puts it back.",
    "keep: return the alpha channel too; drop: remove it.",
    _restore_options,
)
