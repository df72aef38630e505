"""Inputs for a model, made from what the model says it accepts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from artifact.dtypes import NUMPY_OF
from artifact.repository import ONNX, read_manifest
from artifact.shapes import Sides, sized
from artifact.spec import TensorSpec

DTYPES = {name: dtype for name, dtype in NUMPY_OF.items() if name != "BYTES"}  # text is never made up here
UNUSED = ("w", "w_given", "transform")
DEFAULT_SIDE_PX = 64  # for a free axis of an image whose manifest names no tile


class RepositoryError(Exception):
    """A model that cannot be measured; the text says what was looked for and where."""


@dataclass(frozen=True)
class Facts:
    """What inputs need beyond their shapes: classes to choose from (0: unknown) and the side of an image or tile."""

    classes: int = 0
    side_px: int = DEFAULT_SIDE_PX


def newest_version(repository: Path, model: str) -> Path:
    """The folder of the model's highest version that has an ONNX file.

    Raises:
        RepositoryError: there is none.
    """
    folder = repository / model
    versions = [path for path in folder.glob("*") if path.name.isdigit() and (path / ONNX).is_file()]
    if not versions:
        raise RepositoryError(f"{folder}: no numbered version with a {ONNX} in it")
    return max(versions, key=lambda path: int(path.name))


def facts_of(version: Path) -> Facts:
    """What the version's manifest says, the defaults if it has none."""
    spec = read_manifest(version)
    if spec is None:
        return Facts()
    sides = Sides.of(spec)
    return Facts(len(spec.labels), sides.max_px if sides.tile_px else sides.fit(DEFAULT_SIDE_PX))


def random_inputs(
    specs: Sequence[TensorSpec], items: int, facts: Facts, seed: int
) -> dict[str, npt.NDArray[np.generic]]:
    """One array (items, *shape) per input; item i is of seed `seed + i`, as the server generates it.

    Floats with axes are normal latents and noise, floats without (truncation) are 1, integers are labels, uint8 are
    pixels. No item is generated from `w`, which would leave out the mapping network.
    """
    return {spec.name: np.stack([_item(spec, facts, seed + i) for i in range(items)]) for spec in specs}


def _item(spec: TensorSpec, facts: Facts, seed: int) -> npt.NDArray[np.generic]:
    shape = sized(spec, facts.side_px)
    dtype = DTYPES[spec.dtype]
    random = np.random.RandomState(seed)
    if spec.name in UNUSED:
        return np.zeros(shape, dtype)
    if dtype.kind == "f":
        return random.randn(*shape).astype(dtype) if shape else np.ones((), dtype)
    if spec.dtype == "UINT8":
        return random.randint(0, 256, size=shape).astype(dtype)
    return np.full(shape, seed % facts.classes if facts.classes else 0, dtype)
