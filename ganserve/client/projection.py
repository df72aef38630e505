"""Projection: the latent, or w, from which a generator makes an image that is as close as possible to a given one.

Damped Gauss-Newton (Levenberg, 1944; Marquardt, 1963) over a running server: the derivatives are central differences of
the images that it generates, so that only Generate is needed. A prior keeps the latent where the model's own are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ganserve.client.client import Client
from ganserve.client.errors import InvalidRequest
from ganserve.client.paths import latents_of
from ganserve.client.results import ServedModel

STARTS = 512  # random images, of which the closest ones are starts; their w tell how w is distributed
TRIED = 3  # starts, while the result is poor
GOOD_DB = 30.0
MAX_ROUNDS = 12
LEAST_GAIN_DB = 0.05
# In standard deviations: images are rounded to levels, so that smaller steps vanish.
STEP = 0.3
DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Of the prior against pixels, both squared: levels that one standard deviation is worth over the whole image.
PRIOR_LEVELS = 0.25
MAX_AXES = 512
# What is inside the model's domain, by experience: of emoji-stylegan2 its own images are found with 48 dB and more at
# 0.9 standard deviations, a foreign smiley with 24 dB at 4.6, a line drawing with 12 dB at 4.5.
INSIDE_DB = 20.0
INSIDE_DISTANCE = 2.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Projection:
    """What was found.

    Attributes:
        space: "w" or "latent".
        point: w (layers, length) or the latent (Z,), float32: input of `ws=` or `latents=`.
        image: what the model makes of it, (H, W, C) uint8.
        target: the given image, cut and resized to the model's size.
        psnr_db: between both.
        distance: of the point from the mean in standard deviations, root mean square over the axes: about 1 for the
            model's own.
        images: how many were generated.
    """

    space: str
    point: NDArray[np.float32]
    image: NDArray[np.uint8]
    target: NDArray[np.uint8]
    psnr_db: float
    distance: float
    images: int

    @property
    def is_inside(self) -> bool:
        """Whether the image seems to be one that this model can make; a rule of thumb, see INSIDE_DB."""
        return self.psnr_db >= INSIDE_DB and self.distance <= INSIDE_DISTANCE


def project(
    client: Client,
    model: ServedModel,
    image: Image.Image,
    *,
    label: str | int | None = None,
    rounds: int = MAX_ROUNDS,
    w: NDArray[np.float32] | None = None,
    progress: Progress = lambda line: None,
) -> Projection:
    """The point of the model's latent space, w if it has one, whose image is closest to `image` by squared difference.

    Args:
        image: of any size: its middle is cut to the model's shape and resized.
        label: the class, for class-conditional models.
        rounds: at most, from each start. 0: none, so that w is what is looked at.
        w: (layers, length) to start from, as an encoder guesses it. What differs between its layers stays.
        progress: called with a line after each round.

    Raises:
        InvalidRequest: the model is no generator, its latent has more than MAX_AXES axes, or w is not its w.
        ServerError: a call failed.
    """
    if not model.knobs or not model.height:
        raise InvalidRequest(f"model {model.name!r} generates no images; projection is for generators")
    if w is None and not rounds:
        raise InvalidRequest("without rounds there must be a w to look at")
    labels = {} if label is None else {"labels": label}
    search = _Search(client, model, _fitted(image, model), labels, rounds, w)
    return search.run(progress)


def _fitted(image: Image.Image, model: ServedModel) -> NDArray[np.uint8]:
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(model.channels)
    if mode is None:
        raise InvalidRequest(
            f"model {model.name!r} makes images of {model.channels} channels; 1, 3 or 4 can be projected"
        )
    upright = (ImageOps.exif_transpose(image) or image).convert(mode)
    fitted = np.asarray(ImageOps.fit(upright, (model.width, model.height), Image.Resampling.LANCZOS))
    return fitted.reshape(model.height, model.width, model.channels)


class _Search:
    """One projection: the space's axes, and the images of its points."""

    def __init__(
        self, client: Client, model: ServedModel, target: NDArray[np.uint8], labels: Mapping[str, Any], rounds: int,
        given: NDArray[np.float32] | None,
    ) -> None:  # fmt: skip
        self._client, self._model, self._target, self._labels, self._rounds = client, model, target, labels, rounds
        self._wanted = target.astype(np.float64).ravel()
        self._has_w = any(knob.name == "mix" for knob in model.knobs)
        w_shape = next((tuple(knob.shape) for knob in model.knobs if knob.name == "w"), (1, 0))
        if given is not None and (not self._has_w or given.shape != w_shape):
            takes = "x".join(map(str, w_shape)) if self._has_w else "none that is found by its mapping network"
            raise InvalidRequest(
                f"w to start from is {'x'.join(map(str, given.shape))}, model {model.name!r} takes {takes}"
            )
        self._layers, self._given = w_shape[0], given
        self._beyond = np.zeros((1, 1))  # what w has in each layer besides the axes: (layers, length) if w is given
        self._images = 0

    def run(self, progress: Progress) -> Projection:
        """The best of the starts."""
        starts = self._look_around()
        best: tuple[float, NDArray[np.float64], NDArray[np.float64]] | None = None
        for number, start in enumerate(starts, 1):
            found = self._descend(start, lambda line, number=number: progress(f"start {number}: {line}"))  # type: ignore[misc]
            best = found if best is None or found[0] < best[0] else best
            if self._psnr(best[2]) >= GOOD_DB:
                break
        assert best is not None, "there are starts"
        _, x, pixels = best
        point = self._points(x[None])[0].astype(np.float32)
        return Projection(
            "w" if self._has_w else "latent",
            np.array(np.broadcast_to(point, (self._layers, point.shape[1]))) if self._has_w else point[0],
            pixels.reshape(self._target.shape).astype(np.uint8),
            self._target,
            self._psnr(pixels),
            float(np.sqrt(np.mean(x**2))),
            self._images,
        )

    def _look_around(self) -> list[NDArray[np.float64]]:
        """Sets the axes from random seeds; the coordinates of those whose images are closest."""
        seeds = range(STARTS)
        options: dict[str, Any] = {"return_w": True, "truncation": 1.0} if self._has_w else {}
        if self._given is not None:  # only their w is looked at
            options["size"] = 16
        found = self._client.generate(
            self._model.name, version=self._model.version, seeds=seeds, format="raw", **options, **self._labels
        )
        self._images += len(found)
        if self._has_w:
            points = np.stack([image.w[0] for image in found if image.w is not None]).astype(np.float64)
            self._mean = points.mean(axis=0)
            _, sizes, axes = np.linalg.svd(points - self._mean, full_matrices=False)
            kept = sizes > 1e-3 * sizes[0]
            self._axes = (axes * (sizes / np.sqrt(len(points) - 1))[:, None])[kept]
        else:
            points = latents_of(seeds, self._model.latent_size).astype(np.float64)
            self._mean, self._axes = np.zeros(self._model.latent_size), np.eye(self._model.latent_size)
        if len(self._axes) > MAX_AXES:
            raise InvalidRequest(f"the latent varies along {len(self._axes)} axes; projection is for up to {MAX_AXES}")
        if self._given is not None:
            given = self._given.astype(np.float64)
            x = (given.mean(axis=0) - self._mean) @ np.linalg.pinv(self._axes)
            self._beyond = given - (self._mean + x @ self._axes)
            return [x]
        errors = [float(np.mean((image.array.ravel() - self._wanted) ** 2)) for image in found]
        inverse = np.linalg.pinv(self._axes)
        return [(points[index] - self._mean) @ inverse for index in np.argsort(errors)[:TRIED]]

    def _descend(
        self, x: NDArray[np.float64], progress: Progress
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """(objective, coordinates, pixels) where no step makes it better."""
        pixels = self._render(x[None])[0]
        value = self._objective(x, pixels)
        for number in range(1, self._rounds + 1):
            slopes, before = self._slopes(x), self._psnr(pixels)
            curvature, prior = slopes @ slopes.T, PRIOR_LEVELS**2 * len(self._wanted) / len(x)
            gradient = slopes @ (self._wanted - pixels) - prior * x
            scale = float(np.mean(np.diag(curvature))) + prior
            steps = [
                np.linalg.solve(curvature + (prior + damping * scale) * np.eye(len(x)), gradient)
                for damping in DAMPINGS
            ]
            tried = np.stack([x + share * step for step in steps for share in (1.0, 0.4)])
            rendered = self._render(tried)
            values = [self._objective(point, image) for point, image in zip(tried, rendered, strict=True)]
            index = int(np.argmin(values))
            if values[index] >= value:
                break
            x, pixels, value = tried[index], rendered[index], values[index]
            progress(f"round {number}, {self._psnr(pixels):.1f} dB, {self._images} images")
            if self._psnr(pixels) - before < LEAST_GAIN_DB:
                break
        return value, x, pixels

    def _slopes(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """How the pixels change along each axis: (axes, pixels)."""
        moved = STEP * np.eye(len(x))
        found = self._render(np.concatenate([x + moved, x - moved]))
        return (found[: len(x)] - found[len(x) :]) / (2 * STEP)

    def _points(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, layers or 1, length)."""
        return np.asarray((self._mean + x @ self._axes)[:, None] + self._beyond)

    def _render(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The pixels of points (N, axes): (N, pixels)."""
        points = self._points(x).astype(np.float32)
        same = points[:, 0]  # for all layers, if w is not given
        given: dict[str, Any] = {"latents": same, **self._labels}
        if self._has_w:
            given = {"ws": same if self._given is None else points}
        found = self._client.generate(self._model.name, version=self._model.version, format="raw", **given)
        self._images += len(found)
        return np.stack([image.array.ravel() for image in found]).astype(np.float64)

    def _objective(self, x: NDArray[np.float64], pixels: NDArray[np.float64]) -> float:
        prior = PRIOR_LEVELS**2 * len(self._wanted) / len(x)
        return float(np.sum((pixels - self._wanted) ** 2) + prior * np.sum(x**2))

    def _psnr(self, pixels: NDArray[np.float64]) -> float:
        error = float(np.mean((pixels - self._wanted) ** 2))
        return float(10 * np.log10(255**2 / error)) if error else 99.0
