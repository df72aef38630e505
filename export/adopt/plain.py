"""Runs a graph as it came, unoptimised, with numpy around it: what the wrapped graph is compared with."""

import threading
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from export.adopt.read import MAX_ELEMENTS
from export.adopt.roles import Tensor
from export.adopt.wrap import TO_NCHW, Core
from export.errors import ExportError
from export.graph.samples import to_uint8

# Of one run. Graphs run between two nodes only as long as they are allowed to.
LIMIT_S = 120.0


class RunError(Exception):
    """The graph does not run on these inputs; one line that says why."""


class Plain:
    """An open graph, run under a limit of time."""

    def __init__(self, proto: onnx.ModelProto, optimised: bool = False) -> None:
        """Opens it.

        Raises:
            RunError: ONNX Runtime does not.
        """
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        if not optimised:  # folding constants is computing, which no limit ends
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises many kinds
            raise RunError(_line(error)) from None

    def run(self, arrays: dict[str, NDArray[np.generic]], output: str) -> NDArray[np.generic]:
        """One output.

        Raises:
            RunError: it cannot be computed, or not in time.
        """
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        timer = threading.Timer(LIMIT_S, setattr, (options, "terminate", True))
        timer.start()
        try:
            found: NDArray[np.generic] = self._session.run([output], arrays, options)[0]
        except Exception as error:
            late = f"no result within {LIMIT_S:g} s" if options.terminate else _line(error)
            raise RunError(late) from None
        finally:
            timer.cancel()
        return found


def latents(seeds: Sequence[int], size: int) -> NDArray[np.float32]:
    """(N, size), those of the server."""
    return np.concatenate([np.random.RandomState(seed).randn(1, size) for seed in seeds]).astype(np.float32)


def latent_size(tensor: Tensor) -> int:
    """Values of one item."""
    return int(np.prod(tensor.shape[1:]))


def own_latent(tensor: Tensor, seeds: Sequence[int]) -> NDArray[np.generic]:
    """Latents as the graph takes them."""
    drawn = latents(seeds, latent_size(tensor)).reshape(len(seeds), *tensor.shape[1:])
    return drawn.astype(onnx.helper.tensor_dtype_to_np_dtype(tensor.element_type))


def own_label(tensor: Tensor, labels: Sequence[int], classes: int) -> NDArray[np.generic]:
    """Labels as the graph takes them: numbers or one-hot."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.element_type)
    if len(tensor.shape) == 2 and tensor.shape[1] != 1:
        return np.eye(classes)[list(labels)].astype(dtype)
    return np.reshape(labels, (-1, *tensor.shape[1:])).astype(dtype)


def own_image(core: Core, images: NDArray[np.uint8]) -> NDArray[np.generic]:
    """Images (N, H, W, C) uint8 as the graph takes them."""
    assert core.roles.image is not None
    dtype = onnx.helper.tensor_dtype_to_np_dtype(core.roles.image.element_type)
    images = images[..., ::-1] if core.bgr else images
    low, high = (np.array(bound) for bound in core.input_range)  # channels are last
    scaled = low.astype(np.float32) + images.astype(np.float32) * ((high - low) / 255.0).astype(np.float32)
    values = images if dtype == np.uint8 else scaled
    laid = values.transpose(TO_NCHW) if core.input_layout == "NCHW" else values
    return np.ascontiguousarray(laid.astype(dtype))


def to_pixels(core: Core, values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(N, H, W, C) uint8 from what the graph gives."""
    laid = values if core.layout == "NCHW" else values.transpose(TO_NCHW)
    return to_uint8(laid[:, ::-1] if core.bgr else laid, core.output_range)


def require_image(values: NDArray[np.generic], tensor: Tensor, batch: int) -> NDArray[np.generic]:
    """The same, known to be images that are finite.

    Raises:
        ExportError: they are not.
    """
    shape = "x".join(map(str, values.shape))
    if values.ndim != 4 or len(values) != batch or not 0 < values.size <= MAX_ELEMENTS:
        raise ExportError(
            f"the graph gives {tensor.name} of the shape {shape} for {batch} item(s); an image has 4 axes"
        )
    if not np.isfinite(values).all():
        raise ExportError("the graph gives NaN or infinity on a fixed seed; nothing was written")
    return values


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rpartition("] : ")[2][:300] if lines else type(error).__name__
