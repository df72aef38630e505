"""What `ganserve export` must be told of an ONNX graph of somebody else's, where its shapes do not tell."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ganserve.cli.output import CommandError

if TYPE_CHECKING:
    from export.adopt.roles import Adoption

_PANEL = "ONNX graphs (*.onnx)"

TaskOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="NAME",
        help="unconditional, class-conditional, super-resolution or image-to-image (default: by its shapes).",
    ),
]
LatentOption = Annotated[
    str | None, typer.Option(rich_help_panel=_PANEL, metavar="INPUT", help="Input that takes the latent.")
]
LabelOption = Annotated[
    str | None,
    typer.Option(rich_help_panel=_PANEL, metavar="INPUT", help="Input that takes the class, as number or one-hot."),
]
ClassesOption = Annotated[
    int | None, typer.Option(rich_help_panel=_PANEL, min=1, help="Number of classes, if the label is a number.")
]
ImageOption = Annotated[
    str | None, typer.Option(rich_help_panel=_PANEL, metavar="OUTPUT", help="Output that is the image.")
]
LayoutOption = Annotated[
    str | None, typer.Option(rich_help_panel=_PANEL, metavar="NCHW|NHWC", help="Order of the image's axes.")
]
ChannelOrderOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_PANEL, metavar="RGB|BGR", help="Order of the colours in the graph's images (default: RGB)."
    ),
]
RangeOption = Annotated[
    str | None, typer.Option("--range", rich_help_panel=_PANEL, metavar="LOW,HIGH", help="Values of black and white.")
]
InputRangeOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_PANEL, metavar="LOW,HIGH", help="The same of the input image (default: as of the output)."
    ),
]
MeanOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="NUMBER[,...]",
        help="Subtracted from the input image in 0..1, by channel, in place of --input-range.",
    ),
]
StdOption = Annotated[
    str | None,
    typer.Option(rich_help_panel=_PANEL, metavar="NUMBER[,...]", help="What that is divided by."),
]
FixOption = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="INPUT=NUMBER",
        help="Value of a further input, the same in every run: a strength, a noise map. Repeatable.",
    ),
]
NoiseOption = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="INPUT",
        help="Input that takes normally distributed noise, drawn from a request's noise seed. Repeatable.",
    ),
]
TruncationOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_PANEL, metavar="INPUT", help="Input that takes truncation psi, of the graph or of --mapping's."
    ),
]
MappingOption = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="FILE.onnx",
        help="Graph that makes w, where this one makes images from w: gives truncation, w, mixing and edits in w.",
    ),
]
ReferenceOption = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="FILE.npz",
        help="Inputs by name, and the outputs that the graph must give for them, compared before anything is written.",
    ),
]


@dataclass(frozen=True)
class GraphOptions:
    """The options as they were given."""

    task: str | None
    latent: str | None
    label: str | None
    classes: int | None
    image: str | None
    layout: str | None
    range: str | None
    input_range: str | None
    mean: str | None
    std: str | None
    fix: tuple[str, ...]
    reference: Path | None
    noise: tuple[str, ...]
    truncation: str | None
    mapping: Path | None
    channel_order: str | None

    def parsed(self) -> "Adoption":
        """The same for `export.adopt`.

        Raises:
            ExportError: a range is none.
        """
        from export.adopt.options import parse_channel_order, parse_fixed, parse_numbers, parse_range
        from export.adopt.roles import Adoption

        return Adoption(
            self.task,
            self.latent,
            self.label,
            self.classes,
            self.image,
            self.layout,
            parse_range("--range", self.range) if self.range is not None else None,
            parse_range("--input-range", self.input_range) if self.input_range is not None else None,
            parse_numbers("--mean", self.mean) if self.mean is not None else (),
            parse_numbers("--std", self.std) if self.std is not None else (),
            parse_fixed(self.fix),
            self.reference,
            self.noise,
            self.truncation,
            parse_channel_order(self.channel_order) if self.channel_order is not None else False,
            self.mapping,
        )

    def require_none(self) -> None:
        """Checks that none is given, for what is no ONNX graph.

        Raises:
            CommandError: one is.
        """
        for name, value in asdict(self).items():
            if value is not None and value != ():
                raise CommandError(f"--{name.replace('_', '-')} {value}: applies to ONNX graphs (*.onnx) only")
