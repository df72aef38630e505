"""The options of `ganserve generate` that say what to generate, and the client's options that they stand for."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import typer
from numpy.typing import NDArray

from ganserve.cli.output import CommandError
from ganserve.cli.parsing import parse_labels, parse_numbers, parse_seeds
from ganserve.client.options import GenerateOptions

SeedsOption = Annotated[str | None, typer.Option(help="Seeds, such as 0-15 or 0,3,7-9.")]
CountOption = Annotated[int | None, typer.Option(min=1, help="Number of images; the server chooses the seeds.")]
LatentsOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Latents instead of seeds: (n, size), .npy or .npz.")
]
WOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="StyleGAN's w instead of seeds: (n, size) or (n, layers, size).")
]
LabelsOption = Annotated[
    str | None, typer.Option(help="Class indices or names, such as 3,7 or 0-9 or cat: one for all or one for each.")
]
TruncationOption = Annotated[
    str | None,
    typer.Option(
        metavar="PSI", help="Truncation psi: 1 = none, 0 = mean image. One for all or one for each, such as 0,0.5,1."
    ),
]
NoiseSeedsOption = Annotated[
    str | None, typer.Option(help="Seeds for the noise inputs (default: the image seed), such as 5 or 0-15.")
]
ThenOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODEL", help="Upscaler or translator that the images go through next. Repeat it for several."
    ),
]

BestOfOption = Annotated[
    int | None,
    typer.Option("--best-of", metavar="N", help="Candidates for each image; the model's critic takes the best."),
]
MinPercentileOption = Annotated[
    float | None,
    typer.Option(
        metavar="P", help="Take the first candidate that the critic puts at this percentile of the model's images."
    ),
]
DrsOption = Annotated[
    float | None,
    typer.Option(
        "--drs-percentile",
        metavar="P",
        help="Discriminator rejection sampling: gamma as a percentile, such as 80; higher rejects more.",
    ),
]
MaxTriesOption = Annotated[
    int | None, typer.Option(metavar="N", help="Candidates of an image at most, with one of these two (default 16).")
]

T = TypeVar("T")


def read_generate_options(
    seeds: str | None,
    count: int | None,
    latents: Path | None,
    w: Path | None,
    labels: str | None,
    truncation: str | None,
    noise_seeds: str | None,
    changes: tuple[GenerateOptions, int] = ({}, 1),
) -> tuple[GenerateOptions, int]:
    """The client's options and the number of images.

    A single seed is repeated for each of several labels, truncations, noise seeds, or values of `changes`.

    Raises:
        CommandError: two options that exclude each other, or a text or file that cannot be read.
    """
    _check_exclusive({"--seeds": seeds, "--count": count, "--latents": latents, "--w": w})
    found: GenerateOptions = {
        "labels": _read("--labels", labels, parse_labels),
        "truncation": _read("--truncation", truncation, parse_numbers),
        "noise_seeds": _read("--noise-seeds", noise_seeds, parse_seeds),
    }
    several = max([changes[1], *(len(each) for each in found.values() if isinstance(each, Sequence))])
    found.update(changes[0])
    if latents is not None:
        found["latents"] = items = read_items("--latents", latents, "z", (1, 2))
        return found, _count_items(items)
    if w is not None:
        found["ws"] = items = read_items("--w", w, "w", (1, 2, 3))
        return found, _count_items(items)
    numbers = _read("--seeds", seeds, parse_seeds)
    if numbers is None:
        found["count"] = count or 1
        return found, count or 1
    if len(numbers) == 1:
        numbers = [numbers[0]] * several
    found["seeds"] = numbers
    return found, len(numbers)


def read_selection(
    best_of: int | None, min_percentile: float | None, drs_percentile: float | None, max_tries: int | None
) -> GenerateOptions:
    """The client's options of the same names."""
    return {
        "best_of": best_of,
        "min_percentile": min_percentile,
        "drs_percentile": drs_percentile,
        "max_tries": max_tries,
    }


def _check_exclusive(options: dict[str, object]) -> None:
    given = [option for option, value in options.items() if value is not None]
    if len(given) == 2:
        raise CommandError(f"pass {' or '.join(given)}, not both")
    if len(given) > 2:
        raise CommandError(f"pass one of {', '.join(given)}")


def _count_items(items: NDArray[np.float32]) -> int:
    return 1 if items.ndim == 1 else len(items)


def read_items(option: str, path: Path, name: str, axes: tuple[int, ...]) -> NDArray[np.float32]:
    """The array of a .npy file; of a .npz file the array `name`, or the only one. Nothing is unpickled.

    Raises:
        CommandError: not a .npy or .npz file, or not numbers with one of these numbers of axes.
        OSError: it cannot be read.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found:
                names = [name] if name in found.files else found.files
                if len(names) != 1:
                    raise CommandError(
                        f"{option} {path}: has {', '.join(names) or 'nothing'}; expected one array, or {name}"
                    )
                found = found[names[0]]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CommandError(f"{option} {path}: not a .npy or .npz file: {error}") from None
    if found.ndim not in axes or found.dtype.kind not in "fiu" or not found.size:
        shapes = " or ".join(str(count) for count in axes)
        raise CommandError(f"{option} {path}: {found.shape} {found.dtype}; expected numbers with {shapes} axes")
    return np.asarray(found, np.float32)


def _read(option: str, text: str | None, parse: Callable[[str], Sequence[T]]) -> Sequence[T] | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise CommandError(f"{option}: {error}") from None
