"""Inputs and outputs that a graph must reproduce: what whoever made it measured in their own framework."""

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx.helper import tensor_dtype_to_np_dtype

from export.adopt.cores import Found
from export.adopt.plain import Plain, RunError
from export.adopt.wrap import PREFIX
from export.errors import ExportError
from export.graph.parity import LIMITS

MAX_BYTES = 1 << 30
MAX_ITEMS = 64

Arrays = dict[str, NDArray[np.generic]]


def require_reference(path: Path, found: Found) -> tuple[str, ...]:
    """Runs the graph on the file's inputs, one item at a time, and compares its images with the file's.

    Returns:
        What to tell: the largest difference.

    Raises:
        ExportError: the file is not as it should be, or the images differ.
    """
    roles = found.core.roles
    tensors = [one for one in (roles.latent, roles.label, roles.image, *roles.noise, roles.truncation) if one]
    names = [tensor.name.removeprefix(PREFIX) for tensor in tensors]
    output = roles.output.name.removeprefix(PREFIX)
    arrays = _read(path, (*names, output))
    low, high = found.core.output_range
    largest = 0.0
    plain = Plain(found.core.proto)
    for at, expected in enumerate(arrays[output]):
        item = {
            tensor.name: arrays[name][at : at + 1].astype(tensor_dtype_to_np_dtype(tensor.element_type))
            for tensor, name in zip(tensors, names, strict=True)
        }
        if (psi := roles.truncation) is not None and item[psi.name].size == 1:
            item[psi.name] = item[psi.name].reshape([1] * len(psi.shape))  # the graph's own may have been a scalar
        try:
            given = plain.run(item, roles.output.name)[0]
        except RunError as error:
            raise ExportError(f"--reference {path.name}: the graph does not run on item {at}: {error}") from None
        if given.shape != expected.shape:
            raise ExportError(
                f"--reference {path.name}: the graph gives {given.shape} for item {at}, the file {expected.shape}"
            )
        pair = (np.clip(values.astype(np.float64), low, high) for values in (given, expected))
        largest = max(largest, float(np.abs(np.subtract(*pair)).max()) * 255.0 / (high - low))
    limit = LIMITS[found.precision].levels
    if not largest <= limit:
        raise ExportError(
            f"--reference {path.name}: the graph's images differ from the file's by {largest:.3g} levels of 255, at "
            f"most {limit:g} are accepted; nothing was written"
        )
    count = len(arrays[output])
    return (f"parity of the graph with {path.name}: largest difference {largest:.2g} levels of 255, {count} image(s)",)


def _read(path: Path, names: tuple[str, ...]) -> Arrays:
    """The arrays of those names, all of one length.

    Raises:
        ExportError: they are not in it.
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ExportError(f"--reference {path.name}: {size} bytes, at most {MAX_BYTES}")
        with np.load(path, allow_pickle=False) as archive:
            size = sum(member.file_size for member in archive.zip.infolist())
            if size > MAX_BYTES:
                raise ExportError(f"--reference {path.name}: {size} bytes unpacked, at most {MAX_BYTES}")
            if missing := [name for name in names if name not in archive]:
                raise ExportError(
                    f"--reference {path.name}: must hold {', '.join(names)}; lacks {', '.join(missing)}, "
                    f"has {', '.join(archive.files[:8])[:200]}"
                )
            arrays = {name: archive[name] for name in names}
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise ExportError(f"--reference {path}: no such file") from None
        raise ExportError(f"--reference {path.name}: is no .npz file of numbers: {str(error)[:160]}") from None
    lengths = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(lengths) != 1 or not 1 <= min(lengths) <= MAX_ITEMS:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ExportError(f"--reference {path.name}: {shapes}; all must have as many items, 1 to {MAX_ITEMS}")
    if not all(np.issubdtype(array.dtype, np.number) and np.isfinite(array).all() for array in arrays.values()):
        raise ExportError(f"--reference {path.name}: must hold finite numbers")
    return arrays
