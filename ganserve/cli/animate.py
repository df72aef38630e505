"""`ganserve animate`: a path through a generator's latent space as an animation, a film or numbered images."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ganserve.cli.change_options import (
    CenterOption,
    CutoffOption,
    EditOption,
    RotateOption,
    TranslateOption,
    WithoutOption,
    read_changes,
)
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
from ganserve.cli.files import ModelArgument, QualityOption, VersionOption
from ganserve.cli.generate_options import LabelsOption, SeedsOption, WOption, read_generate_options
from ganserve.cli.moving import SUFFIXES, write_moving
from ganserve.cli.output import CommandError, counted, print_json
from ganserve.client.client import Client
from ganserve.client.options import Edit, GenerateOptions
from ganserve.client.paths import CURVES, Curve, interpolate, latents_of
from ganserve.client.results import ServedModel

MAX_FRAMES = 10_000


class CurveChoice(StrEnum):
    """The form of the path; see `ganserve.client.paths`."""

    AUTO = "auto"
    LERP = "lerp"
    SLERP = "slerp"
    CUBIC = "cubic"


class SpaceChoice(StrEnum):
    """What is interpolated."""

    AUTO = "auto"
    LATENT = "latent"
    W = "w"


@dataclass(frozen=True)
class _Path:
    """How to get from key to key."""

    frames: int
    curve: CurveChoice
    loop: bool

    def between(self, keys: NDArray[np.float32], default: Curve) -> NDArray[np.float32]:
        chosen = next((each for each in CURVES if each == self.curve.value), default)
        return interpolate(keys, self.frames, chosen, self.loop)


def animate(
    model: ModelArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help=f"{', '.join(SUFFIXES)}, or a folder that exists, for numbered PNGs."
        ),
    ],
    seeds: SeedsOption = None,
    w: WOption = None,
    labels: LabelsOption = None,
    truncation: Annotated[float | None, typer.Option(metavar="PSI", help="Truncation psi of every frame.")] = None,
    truncation_cutoff: CutoffOption = None,
    truncation_center: CenterOption = None,
    translate: TranslateOption = None,
    rotate: RotateOption = None,
    edit: EditOption = None,
    without: WithoutOption = None,
    noise_seed: Annotated[int, typer.Option(help="Seed of the noise inputs, the same in every frame.")] = 0,
    frames: Annotated[int, typer.Option(min=1, max=MAX_FRAMES, help="Frames of the whole animation.")] = 60,
    fps: Annotated[float, typer.Option(min=0.1, max=240, help="Frames per second.")] = 30.0,
    curve: Annotated[CurveChoice, typer.Option(help="auto: slerp between latents, cubic in w.")] = CurveChoice.AUTO,
    space: Annotated[SpaceChoice, typer.Option(help="auto: w where the model has it, else latent.")] = SpaceChoice.AUTO,
    loop: Annotated[bool, typer.Option("--loop/--no-loop", help="Go back to the first key.")] = True,
    quality: QualityOption = None,
    version: VersionOption = "",
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    api_key_file: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Animates a path from key to key, evenly spaced in time: seeds, w of a file, labels, strengths of an edit, angles.

    A single seed is a key for each of several labels, strengths or angles. Labels are interpolated through w.
    """
    if not output.is_dir() and (output.suffix.lower() not in SUFFIXES or not output.parent.is_dir()):
        raise CommandError(f"-o {output}: must be a file with {', '.join(SUFFIXES)}, or a folder that exists")
    changes, several = read_changes(edit, without, None, None, truncation_cutoff, truncation_center, translate, rotate)
    keys, n = read_generate_options(seeds or (None if w else "0"), None, None, w, labels, None, None, ({}, several))
    path = _Path(frames, curve, loop)
    with connect(server, deadline, ca, api_key_file) as client, counted(frames, model) as advance:
        served = served_model(client, model, version)
        made = _frames(client, served, keys, changes, path, space, truncation)
        made |= {"version": version, "format": "raw", **_noise(served, noise_seed)}
        made |= _edits(changes.pop("edits", ()), n, path) | _transform(changes, n, path)
        images = []
        for image in client.generate_stream(model, **made):
            images.append(image)
            advance()
    pixels = [image.array for image in sorted(images, key=lambda image: image.index)]
    write_moving(pixels, output, fps, quality)
    if as_json:
        print_json(
            {"file": str(output), "frames": frames, "fps": fps, "keys": n, "space": "w" if "ws" in made else "latent"}
        )
        return
    print(f"{output}  {frames} frames, {frames / fps:.1f} s, {n} keys in {'w' if 'ws' in made else 'the latent space'}")


def _frames(
    client: Client,
    served: ServedModel,
    keys: GenerateOptions,
    changes: GenerateOptions,
    path: _Path,
    space: SpaceChoice,
    truncation: float | None,
) -> GenerateOptions:
    """The client's options for the frames' latents or ws."""
    labels = keys.get("labels")
    several_labels = isinstance(labels, Sequence) and not isinstance(labels, str) and len(labels) > 1
    if keys.get("ws") is not None:
        if space is SpaceChoice.LATENT or labels is not None or truncation is not None:
            raise CommandError("--w is w as it stands: leave out --labels, --truncation and --space latent")
        return {"ws": path.between(np.atleast_2d(np.asarray(keys["ws"])), "cubic")}
    has_w = any(knob.name == "mix" for knob in served.knobs)
    if not has_w and (space is SpaceChoice.W or several_labels):
        what = "--labels: several classes are interpolated through w" if several_labels else "--space w"
        raise CommandError(f"{what}, which {served.name} does not have")
    numbers = keys["seeds"] or []
    if has_w and space is not SpaceChoice.LATENT:
        options: dict[str, Any] = {"seeds": numbers, "labels": labels, "truncation": truncation, **_towards(changes)}
        found = client.generate(served.name, version=served.version, format="raw", return_w=True, **options)
        return {"ws": path.between(np.stack([image.w for image in found if image.w is not None]), "cubic")}
    if several_labels:
        raise CommandError("--labels: several classes are interpolated through w; leave out --space latent")
    latents = latents_of(numbers if not isinstance(numbers, int) else [numbers], served.latent_size)
    made: dict[str, Any] = {"latents": path.between(latents, "slerp"), "labels": labels, "truncation": truncation}
    return {**made, **_towards(changes)}  # type: ignore[typeddict-item]


def _towards(changes: GenerateOptions) -> dict[str, Any]:
    """How truncation acts."""
    return {name: changes[name] for name in ("truncation_cutoff", "truncation_center") if name in changes}


def _transform(changes: GenerateOptions, n: int, path: _Path) -> GenerateOptions:
    """The transform with an angle for each frame."""
    found: GenerateOptions = {"translate": changes["translate"]} if "translate" in changes else {}
    if "rotate" in changes:
        turns = np.asarray(changes["rotate"], np.float32).reshape(-1)
        found["rotate"] = (_between_keys("--rotate", turns, n, path)).tolist()
    return found


def _between_keys(option: str, values: NDArray[np.float32], n: int, path: _Path) -> NDArray[np.float32]:
    if len(values) not in (1, n):
        raise CommandError(f"{option}: {len(values)} values for {n} keys; give one or {n}")
    return interpolate(values, path.frames, "lerp", path.loop) if len(values) > 1 else values


def _noise(served: ServedModel, seed: int) -> GenerateOptions:
    return {"noise_seeds": seed} if any(knob.name == "noise_seed" for knob in served.knobs) else {}


def _edits(edits: Any, n: int, path: _Path) -> GenerateOptions:
    """The edits with a strength for each frame."""
    found = []
    for each in edits:
        strengths = np.asarray(each.strength, np.float32).reshape(-1)
        strengths = _between_keys(f"--edit {each.direction}", strengths, n, path)
        found.append(Edit(each.direction, strengths.tolist(), each.layers, each.without))
    return {"edits": found} if found else {}
