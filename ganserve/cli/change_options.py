"""The options that change latents: edits, mixes, truncation by layer, transforms; as typed, and as the client takes
them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer

from ganserve.cli.output import CommandError
from ganserve.cli.parsing import parse_numbers, parse_seeds
from ganserve.client.options import Edit, GenerateOptions, Mix

EditOption = Annotated[
    list[str] | None,
    typer.Option(
        "--edit",
        metavar="NAME:STRENGTH[@LAYERS]",
        help="Change along a direction, by name or index (`ganserve directions MODEL`), in standard deviations: "
        "smile:2, 0:-2,-1,0,1,2, smile:2@0-3. Repeatable.",
    ),
]
WithoutOption = Annotated[
    list[str] | None,
    typer.Option("--without", metavar="NAME", help="Direction that edits leave as it is. Repeatable."),
]
MixOption = Annotated[
    list[str] | None,
    typer.Option("--mix", metavar="SEEDS@LAYERS", help="Take layers of w from other seeds: 7@0-3. Repeatable."),
]
LayerTruncationOption = Annotated[
    str | None,
    typer.Option("--layer-truncation", metavar="PSI,...", help="Psi of each layer of w, instead of --truncation."),
]
CutoffOption = Annotated[
    int | None,
    typer.Option("--truncation-cutoff", min=0, metavar="N", help="Layers that truncation acts on, from 0; 0: all."),
]
CenterOption = Annotated[
    str | None,
    typer.Option(
        "--truncation-center",
        metavar="nearest|N",
        help="What truncation draws images towards, of models exported with --truncation-centers; default: the mean.",
    ),
]
TranslateOption = Annotated[
    str | None,
    typer.Option("--translate", metavar="X,Y", help="Move what StyleGAN3 draws right and down, in sides of the image."),
]
RotateOption = Annotated[
    str | None,
    typer.Option("--rotate", metavar="DEGREES,...", help="Turn what StyleGAN3 draws counter-clockwise."),
]

_EDIT = re.compile(r"(?P<name>[^:@]+):(?P<strengths>[^:@]+)(?:@(?P<layers>[^:@]+))?")
_MIX = re.compile(r"(?P<seeds>[^@]+)@(?P<layers>[^@]+)")

# Of `described_options`.
_AS_THEY_ARE = ("layer_truncations", "truncation_cutoff", "truncation_center", "translate", "rotate", "best_of")

T = TypeVar("T")


def read_changes(
    edits: Sequence[str] | None,
    without: Sequence[str] | None,
    mixes: Sequence[str] | None,
    layer_truncation: str | None,
    cutoff: int | None,
    center: str | None = None,
    translate: str | None = None,
    rotate: str | None = None,
) -> tuple[GenerateOptions, int]:
    """The client's options, and the most values that one of them has for images of their own.

    Raises:
        CommandError: a text of another form.
    """
    found: GenerateOptions = {}
    lengths = [1]
    if without and not edits:
        raise CommandError("--without goes with --edit")
    if edits:
        found["edits"] = read = [_edit(text, tuple(without or ())) for text in edits]
        lengths += [len(each.strength) for each in read if isinstance(each.strength, Sequence)]
    if mixes:
        found["mixes"] = mixed = [_mix(text) for text in mixes]
        lengths += [len(each.seeds) for each in mixed if isinstance(each.seeds, Sequence)]
    if layer_truncation is not None:
        found["layer_truncations"] = _parsed("--layer-truncation", layer_truncation, parse_numbers)
    if cutoff is not None:
        found["truncation_cutoff"] = cutoff
    if center is not None:
        found["truncation_center"] = center
    if translate is not None:
        moves = _parsed("--translate", translate, parse_numbers)
        if len(moves) != 2:
            raise CommandError(f"--translate {translate}: must be X,Y, such as 0.1,-0.05")
        found["translate"] = (moves[0], moves[1])
    if rotate is not None:
        found["rotate"] = turns = _parsed("--rotate", rotate, parse_numbers)
        lengths.append(len(turns))
    return found, max(lengths)


def described_options(options: GenerateOptions) -> dict[str, Any]:
    """What is set for all images, as manifests and reports have it; without the models of further steps."""
    found: dict[str, Any] = {
        "truncation": options.get("truncation"),
        "edits": [asdict(each) for each in options.get("edits", ()) if isinstance(each, Edit)],
        "mixes": [asdict(each) for each in options.get("mixes", ())],
        **{name: options.get(name) for name in _AS_THEY_ARE},
    }
    return {key: value for key, value in found.items() if value not in (None, [])}


def _edit(text: str, without: tuple[str, ...]) -> Edit:
    match = _EDIT.fullmatch(text.strip())
    if match is None:
        raise CommandError(f"--edit {text}: must be NAME:STRENGTH or NAME:STRENGTH@LAYERS, such as smile:2@0-3")
    strengths = _parsed(f"--edit {text}", match["strengths"], parse_numbers)
    return Edit(match["name"].strip(), strengths, match["layers"] or "", without)


def _mix(text: str) -> Mix:
    match = _MIX.fullmatch(text.strip())
    if match is None:
        raise CommandError(f"--mix {text}: must be SEEDS@LAYERS, such as 7@0-3")
    return Mix(_parsed(f"--mix {text}", match["seeds"], parse_seeds), match["layers"])


def _parsed(option: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise CommandError(f"{option}: {error}") from None
