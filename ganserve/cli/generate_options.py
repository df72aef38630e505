"""What `ganserve generate` is asked to draw, read from its options."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import typer
from numpy.typing import NDArray

from ganserve.cli.output import CommandError
from ganserve.cli.parsing import parse_labels, parse_numbers, parse_seeds

SeedsOption = Annotated[str | None, typer.Option(help="Seeds such as 0-15 or 0,3,7-9.")]
CountOption = Annotated[int | None, typer.Option(min=1, help="This many, from seeds that the server draws.")]
LatentsOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Latents in place of seeds: (n, size), .npy or .npz.")
]
WOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="StyleGAN's w in place of seeds: (n, size) or (n, layers, size).")
]
LabelsOption = Annotated[
    str | None, typer.Option(help="Classes by index or name such as 3,7 or 0-9 or cat: one for all or one for each.")
]
TruncationOption = Annotated[
    str | None, typer.Option(metavar="PSI", help="1 is none, 0 the mean picture; such as 0.7, or 0,0.5,1 for three.")
]
NoiseSeedsOption = Annotated[str | None, typer.Option(help="Where the noise is from, such as 5 or 0-15.")]

T = TypeVar("T")


@dataclass(frozen=True)
class What:
    """The arguments of `Client.generate` that say what to draw; `n` pictures."""

    n: int
    seeds: list[int] | None = None
    count: int | None = None
    latents: NDArray[np.float32] | None = None
    ws: NDArray[np.float32] | None = None
    labels: list[str] | None = None
    truncations: list[float] | None = None
    noise_seeds: list[int] | None = None


def read_what(
    seeds: str | None,
    count: int | None,
    latents: Path | None,
    w: Path | None,
    labels: str | None,
    truncation: str | None,
    noise_seeds: str | None,
) -> What:
    """The options taken together. A single seed is drawn once for each of several labels, truncations or noise seeds.

    Raises:
        CommandError: two options that exclude each other, or a text or file that cannot be read.
    """
    sources = {"--seeds": seeds, "--count": count, "--latents": latents, "--w": w}
    given = [option for option, value in sources.items() if value is not None]
    if len(given) > 1:
        raise CommandError(
            f"pass {' or '.join(given)}, not both" if len(given) == 2 else f"pass one of {', '.join(given)}"
        )
    wanted = _read("--labels", labels, parse_labels)
    psis = _read("--truncation", truncation, parse_numbers)
    noise = _read("--noise-seeds", noise_seeds, parse_seeds)
    numbers = _read("--seeds", seeds, parse_seeds)
    if numbers is not None and len(numbers) == 1:
        numbers *= max(len(each) for each in (numbers, wanted or (), psis or (), noise or ()))
    rows = None if latents is None else read_rows("--latents", latents, "z", (1, 2))
    ws = None if w is None else read_rows("--w", w, "w", (1, 2, 3))
    explicit = rows if rows is not None else ws
    if explicit is not None:
        n = 1 if explicit.ndim == 1 else len(explicit)
    else:
        n = count or len(numbers or [0])
        count = count or (None if numbers else 1)
    return What(n, numbers, count, rows, ws, wanted, psis, noise)


def read_rows(option: str, path: Path, name: str, axes: tuple[int, ...]) -> NDArray[np.float32]:
    """The array of a .npy file, or of a .npz file the one called `name`, else its only one. Nothing is unpickled.

    Raises:
        CommandError: not such a file, or not numbers with so many axes.
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


def _read(option: str, text: str | None, parse: Callable[[str], list[T]]) -> list[T] | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise CommandError(f"{option}: {error}") from None
