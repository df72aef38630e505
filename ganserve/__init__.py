"""The client of a ganserve server: pictures by seed and label, pictures in and pictures out.

>>> from ganserve import Client
>>> with Client("localhost:8001") as client:
...     faces = client.generate("faces", seeds=range(16))
...     faces[0].array  # (H, W, C) uint8

Needs neither torch nor onnxruntime. The command is `ganserve.cli`.
"""

from ganserve.client.aio import AsyncClient
from ganserve.client.client import Client
from ganserve.client.errors import (
    DeadlinePassed,
    InvalidRequest,
    NotFound,
    Overloaded,
    ServerError,
    ServerFault,
    Unavailable,
)
from ganserve.client.messages import AlphaName, FormatName, Picture
from ganserve.client.results import GeneratedImage, Knob, ServedModel, Timings, Translated, Upscaled

__all__ = [
    "AlphaName",
    "AsyncClient",
    "Client",
    "DeadlinePassed",
    "FormatName",
    "GeneratedImage",
    "InvalidRequest",
    "Knob",
    "NotFound",
    "Overloaded",
    "Picture",
    "ServedModel",
    "ServerError",
    "ServerFault",
    "Timings",
    "Translated",
    "Unavailable",
    "Upscaled",
]
