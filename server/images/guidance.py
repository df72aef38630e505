"""What a translator takes beside the image: attributes, or a domain and a style of it, by seed or from a reference.

A reference is an image like any other: its header is read first, and a worker decodes it, cuts it to the shape that the
network takes and resizes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from artifact.spec import REFERENCE, REFERENCE_GIVEN, Spec
from server.errors import InvalidRequest
from server.images import codecs, latents
from server.images.cutouts import spread_colours
from server.images.header import Header

# Of a style that the request does not say.
STYLE_SEED = 0


@dataclass(frozen=True)
class Guidance:
    """What a request says beside the image. `seed` None: not given; `reference`: its header, None without one."""

    labels: Sequence[str] = ()
    seed: int | None = None
    reference: Header | None = None


def resolve_guidance(guidance: Guidance, spec: Spec) -> dict[str, NDArray[Any]]:
    """The inputs beside the image, (1, ...) each; a reference is black until `read_reference` has read it.

    Raises:
        InvalidRequest: something missing, unknown, contradictory, or given to a model that does not take it.
    """
    shapes = {tensor.name: tensor.shape for tensor in spec.inputs}
    by_seed, by_reference = "latent" in shapes, REFERENCE in shapes
    _check_style(guidance, by_seed, by_reference)
    if "label" in shapes:
        label = latents.resolve_labels(guidance.labels, 1, spec.labels)
        assert label is not None, "a model with a label has names for it"
        found: dict[str, NDArray[Any]] = {"label": label}
    else:
        found = dict(latents.resolve_attributes(guidance.labels, spec))
    if by_seed:
        seed = STYLE_SEED if guidance.seed is None else guidance.seed
        found["latent"] = latents.from_seeds([seed], spec.latent_size)
    if by_reference:
        found[REFERENCE] = np.broadcast_to(np.zeros((), np.uint8), (1, *shapes[REFERENCE]))
    if by_seed and by_reference:
        found[REFERENCE_GIVEN] = np.array([guidance.reference is not None], np.float32)
    return found


def _check_style(guidance: Guidance, by_seed: bool, by_reference: bool) -> None:
    takes = " or ".join(what for what, has in (("seeds", by_seed), ("references", by_reference)) if has)
    takes = f"takes styles from {takes} only" if takes else "takes no styles"
    if guidance.seed is not None and not by_seed:
        raise InvalidRequest(f"seed: {guidance.seed} given, but the model {takes}; leave it out")
    if guidance.reference is not None and not by_reference:
        raise InvalidRequest(f"reference: given, but the model {takes}; leave it out")
    if guidance.seed is not None and guidance.reference is not None:
        raise InvalidRequest(f"seed: {guidance.seed} given together with reference; a style comes from one of them")
    if by_reference and not by_seed and guidance.reference is None:
        raise InvalidRequest("reference: missing; the model takes the style from an image of the label's domain")


def read_reference(data: bytes, header: Header, spec: Spec) -> NDArray[np.uint8]:
    """(1, H, W, C) uint8: the middle of the image `data`, in the network's shape. For a worker.

    Raises:
        InvalidRequest: damaged.
    """
    height, width, channels = next(tensor.shape for tensor in spec.inputs if tensor.name == REFERENCE)
    pixels = codecs.decode(data, header).pixels
    colours = pixels[..., : header.channels - header.has_alpha]
    if header.has_alpha:
        colours = spread_colours(colours, pixels[..., -1:])
    image = Image.fromarray(colours[..., 0] if colours.shape[2] == 1 else colours)
    fitted = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    levels: NDArray[np.uint8] = np.asarray(fitted).reshape(height, width, -1)
    return np.ascontiguousarray(np.broadcast_to(levels, (height, width, channels)))[None]
