"""`ganserve models`: the models of a running server and their parameters."""

import textwrap
from dataclasses import asdict
from typing import Annotated

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
from ganserve.cli.output import CommandError, print_json, print_table
from ganserve.client.results import Knob, ServedModel

WIDTH = 110
SHOWN_LABELS = 24  # more are shown only if the model is named


def models(
    name: Annotated[str | None, typer.Argument(metavar="MODEL", help="Only this model, with all its labels.")] = None,
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    api_key_file: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lists the server's models: family, task, parameters with their limits, labels."""
    with connect(server, deadline, ca, api_key_file) as client:
        found = client.models()
    if name is not None:
        found = [model for model in found if model.name == name]
        if not found:
            raise CommandError(f"{server} has no model {name!r}")
    if as_json:
        print_json([asdict(model) for model in found])
        return
    headers = ("name", "version", "state", "task", "family", "image", "batch", "engine", "reason")
    print_table(headers, [_table_row(model) for model in found])
    for model in found:
        _print_knobs(model, every_label=name is not None)


def _table_row(model: ServedModel) -> tuple[object, ...]:
    if model.width:
        size = f"{model.width}x{model.height}"
    elif model.scale > 1:
        size = f"x{model.scale}"
    else:
        size = f"any, to {model.multiple_px}" if model.multiple_px > 1 else "any" if model.scale else ""
    if model.input_channels != model.channels and model.input_channels:
        size += f", {model.input_channels} to {model.channels} channels"
    task = model.task or "tensors"
    return (
        model.name, model.version, model.state, task, model.architecture, size, model.max_batch_size,
        f"{model.engine} {model.precision}".strip(), model.reason,
    )  # fmt: skip


def _print_knobs(model: ServedModel, every_label: bool) -> None:
    """A line for each parameter and a paragraph of labels; nothing for models without parameters."""
    if model.knobs:
        print(f"\n{model.name}:")
    for knob in model.knobs:
        print(f"  {knob.name:<17}  {_range(knob):<24}  {knob.description}".rstrip())
        if knob.name == "label":
            shown = model.labels if every_label else model.labels[:SHOWN_LABELS]
            names = ", ".join(f"{index} {name}" if name != str(index) else name for index, name in enumerate(shown))
            more = len(model.labels) - len(shown)
            names += f", ... {more} more: `ganserve models {model.name}`" if more else ""
            print(textwrap.fill(names, WIDTH, initial_indent=" " * 20, subsequent_indent=" " * 20))
    if model.critic:
        print(f"  {'critic':<17}  {model.critic:<24}  discriminator, for score, --best-of and --min-percentile")


def _range(knob: Knob) -> str:
    """Such as `0..9`, `-2..2, else 1` or `16 x 512 numbers`."""
    if knob.shape:
        return " x ".join(map(str, knob.shape)) + " numbers"
    limits = f"{knob.minimum:.10g}..{knob.maximum:.10g}" if None not in (knob.minimum, knob.maximum) else ""
    return limits if knob.default is None else f"{limits}, else {knob.default:g}"
