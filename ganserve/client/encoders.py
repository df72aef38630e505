"""Encoders of images into a generator's w: what `Client.encode` sends, as ModelInfer, and what it gives."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ganserve.client.errors import InvalidRequest, NotFound
from ganserve.client.pictures import Picture, encoded
from ganserve.client.results import ServedModel


def encode_request(models: Sequence[ServedModel], name: str, version: str, image: Picture) -> bytes:
    """A ModelInferRequest with the image's middle, cut and resized to what the encoder takes, in [-1, 1].

    Raises:
        NotFound: no model of that name and version is ready.
        InvalidRequest: it is no encoder, or the image cannot be read.
        OSError: the file cannot be read.
    """
    found = [each for each in models if each.name == name and version in ("", each.version) and each.state == "READY"]
    if not found:
        raise NotFound(f"the server has no model {name!r} that is ready" + (f", version {version}" if version else ""))
    model = max(found, key=lambda each: int(each.version))
    if model.task != "encoder":
        raise InvalidRequest(f"model {name!r} is for {model.task or 'plain tensors'}; encode needs an encoder")
    try:
        with Image.open(io.BytesIO(encoded(image))) as opened:
            upright = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidRequest(f"the image cannot be decoded: {error}") from None
    fitted = np.asarray(ImageOps.fit(upright, (model.width, model.height), Image.Resampling.LANCZOS))
    values = np.ascontiguousarray((fitted.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None])
    from tritonclient.grpc import service_pb2 as kserve  # not needed by others of the client's calls

    request = kserve.ModelInferRequest(model_name=name, model_version=model.version)
    request.inputs.add(name="image", datatype="FP32", shape=values.shape)
    request.outputs.add(name="w")
    request.raw_input_contents.append(values.astype("<f4").tobytes())
    return bytes(request.SerializeToString())


def read_w(response: bytes) -> NDArray[np.float32]:
    """w (layers, length) of a ModelInferResponse."""
    from tritonclient.grpc import service_pb2 as kserve

    reply = kserve.ModelInferResponse.FromString(response)
    (output,), (data,) = reply.outputs, reply.raw_output_contents
    return np.frombuffer(data, "<f4").astype(np.float32).reshape(tuple(output.shape)[1:])
