"""Fixed inputs that a module takes, found by trying the usual forms, and the images that it gives for each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ganserve.module.checks import first_width, is_traced
from ganserve.module.errors import ExportError

if TYPE_CHECKING:
    import torch
    from torch import nn

SEEDS = (0, 1, 2)
SIZES_PX = ((64, 96), (128, 192), (256, 256), (512, 512), (32, 32))
CHANNELS = (3, 1, 4)
MAX_SHOWN = 4  # forms that failed

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Samples:
    """Inputs of one item each, as the module takes them, and the image (1, C, H, W) or (1, H, W, C) for each.

    `inputs`: by the names of the graph: `latent` and `label`, or `image`.
    """

    inputs: Sequence[Arrays]
    images: Sequence[NDArray[np.float32]]
    output: str

    def write(self, path: Path) -> None:
        """As `ganserve export --reference` reads it."""
        joined: dict[str, Any] = {name: np.concatenate([item[name] for item in self.inputs]) for name in self.inputs[0]}
        joined[self.output] = np.concatenate(self.images)
        np.savez(path, **joined)


def find_samples(
    module: "nn.Module",
    latent_size: int | tuple[int, ...] | None,
    classes: int | None,
    bounds: tuple[float, float],
) -> Samples:
    """The first of the usual forms of input that the module takes. `bounds`: of an input image's values.

    Raises:
        ExportError: it takes none of them, gives no image, or another one each time.
    """
    failures: list[str] = []
    for inputs in _drawing(latent_size, classes) if latent_size is not None else _transforming(bounds):
        shapes = ", ".join(f"{name} {tuple(array.shape)} {array.dtype}" for name, array in inputs[0].items())
        try:
            first = run(module, inputs[0])
        except ExportError:
            raise
        except Exception as error:  # whatever the user's code raises
            failures.append(f"{shapes}: {_line(error)}")
            continue
        again = run(module, inputs[0])
        if not np.allclose(first, again, atol=1e-3 * max(float(np.ptp(again)), 1e-9), equal_nan=True):
            raise ExportError(
                "the module gives another image each time for the same input: it draws random numbers (noise, "
                "dropout); make it take them from the latent, or leave them out"
            )
        images = [first, *(run(module, item) for item in inputs[1:])]
        if not all(np.isfinite(image).all() for image in images):
            raise ExportError("the module gives NaN or infinity on a fixed seed")
        return Samples(inputs, images, "image" if latent_size is not None else "output")
    what = f"latent_size={latent_size}" if latent_size is not None else "no latent_size, so an image"
    hint = first_width(module) if latent_size is not None else "; if it takes a latent, pass latent_size"
    if is_traced(module) and "Guard" in failures[0]:
        hint = (
            "; it was exported for fixed shapes: export it with one item, or with dynamic_shapes of a free first axis"
        )
    raise ExportError(f"{what}: the module takes none of these: {'; '.join(failures[:MAX_SHOWN])}{hint}")


def run(module: "nn.Module", item: Arrays) -> NDArray[np.float32]:
    """One image, as the module gives it.

    Raises:
        ExportError: it gives no image, or more than that.
    """
    import torch

    with torch.no_grad():
        found = only_tensor(module(*(torch.from_numpy(array) for array in item.values())))
    if found.ndim != 4 or len(found) != 1:
        raise ExportError(
            f"the module gives a tensor {tuple(found.shape)} for one item; an image has 4 axes, "
            "(1, channels, height, width) or (1, height, width, channels)"
        )
    if not found.is_floating_point():
        raise ExportError(f"the module gives {found.dtype}; must be floating point, with its black and white as range=")
    return found.float().numpy()


def only_tensor(found: object) -> "torch.Tensor":
    """The tensor that a module returns, alone or with Nones beside it.

    Raises:
        ExportError: it returns several, or none.
    """
    import torch

    if isinstance(found, torch.Tensor):
        return found
    if isinstance(found, tuple | list):
        tensors = [one for one in found if one is not None]
        if len(tensors) == 1 and isinstance(tensors[0], torch.Tensor):
            return tensors[0]
        parts = ", ".join(
            str(tuple(one.shape)) if isinstance(one, torch.Tensor) else type(one).__name__ for one in found
        )
        what = f"a {type(found).__name__} of {len(found)} ({parts})"
    else:
        what = f"a {type(found).__name__}"
    raise ExportError(
        f"the module returns {what}, must return the image alone; wrap it in a torch.nn.Module whose forward picks it"
    )


def _drawing(latent_size: int | tuple[int, ...], classes: int | None) -> Iterator[list[Arrays]]:
    shapes = [(latent_size,), (latent_size, 1, 1)] if isinstance(latent_size, int) else [tuple(latent_size)]
    for shape in shapes:
        latents = [
            np.random.RandomState(seed).randn(1, int(np.prod(shape))).astype(np.float32).reshape(1, *shape)
            for seed in SEEDS
        ]
        if classes is None:
            yield [{"latent": latent} for latent in latents]
            continue
        numbers = [np.array([seed % classes]) for seed in SEEDS]
        for labels in (numbers, [np.eye(classes, dtype=np.float32)[number] for number in numbers]):
            yield [{"latent": latent, "label": label} for latent, label in zip(latents, labels, strict=True)]


def _transforming(bounds: tuple[float, float]) -> Iterator[list[Arrays]]:
    low, high = bounds
    for channels in CHANNELS:
        for height, width in SIZES_PX:
            pictures = (_picture(height, width, channels, seed) for seed in SEEDS)
            yield [{"image": np.float32(low) + np.float32(high - low) * picture} for picture in pictures]


def _picture(height: int, width: int, channels: int, seed: int) -> NDArray[np.float32]:
    """(1, C, H, W) in 0..1: slopes, edges and noise."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width]
    layers = [
        0.2 + 0.5 * (x + y) / (height + width) + 0.2 * ((x // (5 + at) + y // 7) % 2) + random.uniform(0, 0.1, x.shape)
        for at in range(channels)
    ]
    return np.stack(layers)[None].astype(np.float32)


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:160] if lines else type(error).__name__
