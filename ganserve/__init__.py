"""The client of a ganserve server: generates images by seed and label, upscales and translates images.

>>> from ganserve import Client
>>> with Client("localhost:8001") as client:
...     faces = client.generate("faces", seeds=range(16))
...     faces[0].array  # (H, W, C) uint8

`export_module` writes a network of one's own into a model repository, and needs the extra `export`.

Needs grpc, numpy and Pillow. The command line is `ganserve.cli`.
"""

from ganserve.client.aio import AsyncClient
from ganserve.client.client import Client
from ganserve.client.comparison import Comparison
from ganserve.client.errors import (
    AccessDenied,
    DeadlinePassed,
    InvalidRequest,
    NotFound,
    Overloaded,
    ServerError,
    ServerFault,
    Unavailable,
)
from ganserve.client.formats import FormatName
from ganserve.client.options import (
    AlphaName,
    Edit,
    FitName,
    GenerateOptions,
    ImageOptions,
    Mix,
    ScoreOptions,
    TranslateOptions,
    UpscaleOptions,
)
from ganserve.client.paths import interpolate, latents_of
from ganserve.client.pictures import Picture
from ganserve.client.received import Timings
from ganserve.client.results import (
    Choice,
    Direction,
    GeneratedImage,
    Knob,
    ServedModel,
    StepReport,
    Translated,
    Upscaled,
)
from ganserve.client.scores import ImageScore
from ganserve.module.errors import ExportError
from ganserve.module.export import Exported, export_module

__all__ = [
    "AccessDenied",
    "AlphaName",
    "AsyncClient",
    "Choice",
    "Client",
    "Comparison",
    "DeadlinePassed",
    "Direction",
    "Edit",
    "ExportError",
    "Exported",
    "FitName",
    "FormatName",
    "GenerateOptions",
    "GeneratedImage",
    "ImageOptions",
    "ImageScore",
    "InvalidRequest",
    "Knob",
    "Mix",
    "NotFound",
    "Overloaded",
    "Picture",
    "ScoreOptions",
    "ServedModel",
    "ServerError",
    "ServerFault",
    "StepReport",
    "Timings",
    "TranslateOptions",
    "Translated",
    "Unavailable",
    "UpscaleOptions",
    "Upscaled",
    "export_module",
    "interpolate",
    "latents_of",
]
