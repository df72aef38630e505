"""`ganserve upscale` and `ganserve translate`: image files through a running server into other files."""

import inspect
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

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
)
from ganserve.cli.files import ModelArgument, QualityOption, VersionOption, describe_timings, facts_of
from ganserve.cli.media.image import ImageConverter, Made, Result
from ganserve.cli.media.options import (
    Alpha,
    CompareOption,
    FitOption,
    ForceOption,
    FormatOption,
    Frames,
    FramesOption,
    HeightOption,
    InFlightOption,
    InputsArgument,
    OutputOption,
    ScaleOption,
    SkipOption,
    SuffixOption,
    WidthOption,
)
from ganserve.cli.media.page import Page
from ganserve.cli.media.plan import PIPE, Conversion, Naming, plan
from ganserve.cli.media.run import Summary, patiently, run
from ganserve.cli.output import print_json
from ganserve.client.client import Client
from ganserve.client.formats import FormatName
from ganserve.client.options import UpscaleOptions
from ganserve.client.results import Upscaled

_SIZES = ("scale", "width", "height", "fit")


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
        facts = facts_of(result.model, result.version, result.batch_size, result.timings)
        target = str(conversion.target or "-")
        size = {"width": result.width, "height": result.height}
        frames = {"frames": made.frames} if made.frames > 1 else {}
        if made.note:
            print(f"ganserve: {conversion}: {made.note}", file=sys.stderr)
        if self.alone and not self.as_json:
            counts = {**frames, **tiles, "batch": result.batch_size}
            line = "  ".join(f"{name} {count}" for name, count in counts.items())
            text = f"{target}  {result.width}x{result.height}  {line}  {describe_timings(result.timings)}"
            print(text, file=sys.stderr if self.to_stdout else sys.stdout)
        return {**facts, "input": str(conversion), "file": target, **size, **tiles, **frames}

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

    places: threading.Semaphore
    stop: threading.Event
    patience_s: float

    def send(self, call: Callable[[], Result]) -> Result:
        """The call's result."""
        with self.places:
            result: Result = patiently(call, self.patience_s, self.stop)
            return result


def _command(call: Callable[..., Any], help: str, alpha_help: str, sized: bool) -> Callable[..., int]:
    """A subcommand named after the client's method `call`. `sized`: whether it has the options of `_SIZES`."""

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
        scale: ScaleOption = None,
        width: WidthOption = None,
        height: HeightOption = None,
        fit: FitOption = None,
        alpha: Annotated[Alpha, typer.Option(help=alpha_help)] = Alpha.KEEP,
        quality: QualityOption = None,
        version: VersionOption = "",
        server: ServerOption = SERVER,
        deadline: DeadlineOption = DEADLINE_S,
        ca: AuthorityOption = None,
        api_key_file: ApiKeyOption = None,
        as_json: JsonOption = False,
    ) -> int:
        naming = Naming(None if format is None else f".{format.lower().lstrip('.')}", suffix, model)
        conversions = plan(inputs, output, naming, force=force)
        options: UpscaleOptions = {"alpha": alpha.value, "quality": quality, "version": version}
        if sized:
            options |= {"scale": scale, "width": width, "height": height, "fit": fit.value if fit else None}
        sending = Sending(threading.Semaphore(in_flight), threading.Event(), deadline if len(conversions) > 1 else 0)
        with connect(server, deadline, ca, api_key_file) as client:

            def call_one(image: Any, wanted: FormatName) -> Result:
                return sending.send(lambda: call(client, model, image, format=wanted, **options))

            converter = ImageConverter(call_one, model, frames is Frames.ALL, quality, in_flight)
            page = Page(compare, len(conversions))
            reporter = Reporter(as_json, output == PIPE, len(conversions) == 1, page)
            try:
                return _convert_all(conversions, converter, reporter, in_flight, skip_existing)
            finally:
                sending.stop.set()

    transform.__name__ = call.__name__
    transform.__doc__ = help
    if not sized:
        signature = inspect.signature(transform)
        kept = [each for each in signature.parameters.values() if each.name not in _SIZES]
        transform.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return transform


def _convert_all(
    conversions: Sequence[Conversion],
    converter: ImageConverter,
    reporter: Reporter,
    in_flight: int,
    skip_existing: bool,
) -> int:
    def convert(conversion: Conversion) -> dict[str, Any]:
        return reporter.report(conversion, converter.convert(conversion))

    if reporter.alone and not skip_existing:
        summary = Summary(1, [convert(conversions[0])])
    else:
        summary = run(conversions, convert, in_flight=in_flight, skip_existing=skip_existing)
    return reporter.end(summary)


upscale = _command(
    Client.upscale,
    "Enlarges images with a super-resolution model: files, folders, animations, GeoTIFFs.",
    "keep: enlarge the alpha channel too; drop: remove it.",
    sized=True,
)
translate = _command(
    Client.translate,
    "Turns images into others of the same size with an image-to-image model. Accepts any size.",
    "keep: return the alpha channel unchanged; drop: remove it.",
    sized=False,
)
