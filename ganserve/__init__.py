"""The client of a ganserve server: generates images by seed and label, upscales and translates images.

>>> from ganserve import Client
>>> with Client("localhost:8001") as client:
...     faces = client.generate("faces", seeds=range(16))
...     faces[0].array  # (H, W, C) uint8

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
from ganserve.client.options import AlphaName, GenerateOptions, ImageOptions
from ganserve.client.pictures import Picture
from ganserve.client.received import Timings
from ganserve.client.results import GeneratedImage, Knob, ServedModel, StepReport, Translated, Upscaled

__all__ = [
    "AccessDenied",
    "AlphaName",
    "AsyncClient",
    "Client",
    "Comparison",
    "DeadlinePassed",
    "FormatName",
    "GenerateOptions",
    "GeneratedImage",
    "ImageOptions",
    "InvalidRequest",
    "Knob",
    "NotFound",
    "Overloaded",
    "Picture",
    "ServedModel",
    "ServerError",
    "ServerFault",
    "StepReport",
    "Timings",
    "Translated",
    "Unavailable",
    "Upscaled",
]
