"""A module -> an ONNX file, in the user's process: the only place where the user's code runs."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ganserve.module.errors import ExportError
from ganserve.module.samples import Samples, only_tensor

if TYPE_CHECKING:
    from torch import nn

# Read when onnxruntime is imported, which otherwise writes a device id and sends usage data.
os.putenv("ORT_DISABLE_TELEMETRY", "1")

OPSET = 18
# Of the span of the module's values: what the graph may differ by.
TOLERANCE = 1.0 / 255.0


def trace(module: "nn.Module", samples: Samples, path: Path) -> None:
    """Writes the first graph that gives what the module gives, at `path`.

    Tried in turn: torch.export with a free batch (and free heights and widths), the older tracer with the same, and
    torch.export with the sample's shapes, whose graph is then served with a batch of 1 if it cannot be freed.

    Raises:
        ExportError: no exporter makes one.
    """
    import torch

    failures = []
    ways = {"torch.export": _exported, "the tracer": _traced, "torch.export, fixed": _fixed}
    if isinstance(module, torch.jit.ScriptModule):  # only the tracer knows it, and only if nothing is around it
        ways = {"the tracer": _traced}
    else:
        module = _picked(module)
    for name, export in ways.items():
        try:
            with _quiet():
                export(module, samples, path)
            session = _opened(path)
            difference = _difference(session, samples)
            if export is not _fixed and "image" in samples.inputs[0]:
                _require_free_sizes(session, samples)
        except Exception as error:  # the exporters and ONNX Runtime raise many kinds
            failures.append(f"{name}: {_line(error)}")
            continue
        if difference <= TOLERANCE:
            return
        failures.append(f"{name}: its graph differs from the module by {difference:.2g} of the values' span")
    raise ExportError(f"the module cannot be written as ONNX; {'; '.join(failures)}")


def _picked(module: "nn.Module") -> "nn.Module":
    """The module, returning its image alone."""
    from torch import nn

    class Image(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, *inputs: Any) -> Any:
            return only_tensor(self.network(*inputs))

    picked = Image()
    picked.training = False  # eval() would reach into the user's module
    return picked


def _axes(samples: Samples) -> dict[str, dict[int, str]]:
    """Free axes by input."""
    return {name: {0: "N", 2: "H", 3: "W"} if name == "image" else {0: "N"} for name in samples.inputs[0]}


def _exported(module: "nn.Module", samples: Samples, path: Path) -> None:
    # With two items: torch.export takes an axis of 1 for a fixed one.
    inputs = {name: np.concatenate([samples.inputs[0][name], samples.inputs[1][name]]) for name in samples.inputs[0]}
    _dynamo(module, samples, path, inputs, (tuple(_axes(samples).values()),))


def _fixed(module: "nn.Module", samples: Samples, path: Path) -> None:
    _dynamo(module, samples, path, samples.inputs[0], None)


def _dynamo(module: "nn.Module", samples: Samples, path: Path, inputs: Any, shapes: Any) -> None:
    import torch

    with torch.no_grad():
        program = torch.onnx.export(
            module,
            tuple(torch.from_numpy(array) for array in inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=[samples.output],
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))


def _traced(module: "nn.Module", samples: Samples, path: Path) -> None:
    import torch

    axes = {**_axes(samples), samples.output: {0: "N"} if samples.output == "image" else {0: "N", 2: "H2", 3: "W2"}}
    with torch.no_grad():
        torch.onnx.export(
            module,
            tuple(torch.from_numpy(array) for array in samples.inputs[0].values()),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(samples.inputs[0]),
            output_names=[samples.output],
            dynamic_axes=axes,
        )


def _opened(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _require_free_sizes(session: Any, samples: Samples) -> None:
    """Runs the graph on an image twice as large: one that declares free axes and has none must be written as it is.

    Raises:
        Exception: of ONNX Runtime.
    """
    larger = samples.inputs[0]["image"].repeat(2, axis=2).repeat(2, axis=3)
    session.run([samples.output], {"image": larger})


def _difference(session: Any, samples: Samples) -> float:
    """The largest between graph and module, as a share of the values' span."""
    span = max(float(np.ptp(np.concatenate([image.ravel() for image in samples.images]))), 1e-9)
    largest = 0.0
    for item, image in zip(samples.inputs, samples.images, strict=True):
        found = session.run([samples.output], item)[0]
        if found.shape != image.shape:
            raise ExportError(f"its graph gives the shape {found.shape}, the module {image.shape}")
        largest = max(largest, float(np.abs(found - image).max()) / span)
    return largest


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the exporters' log lines and warnings; their errors come as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _line(error: BaseException) -> str:
    """The first line of what began it: torch.onnx wraps errors in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
