"""Small graphs of convolutions, and candidates that run them in ONNX Runtime, changed as a test says."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from artifact.repository import ONNX
from server.engines.base import Arrays
from server.engines.onnx.cpu import OnnxCpuEngine
from server.repository.cpu.contest import Candidate
from server.repository.model_version import ModelVersion

Z = 8
Outputs = dict[str, NDArray[Any]]


def write_generator(folder: Path, dtype: str = "UINT8", layers: int = 1) -> None:
    """latent (N, 8) -> image (N, 16, 16, 3) uint8, or (N, 16, 16, 3) float32, through convolutions of 32 channels."""
    random = np.random.RandomState(0)
    constants: dict[str, Any] = {
        "seed": random.randn(Z, 32 * 16 * 16).astype(np.float32) * 20, "shape": np.array([-1, 32, 16, 16]),
        "last": random.randn(3, 32, 1, 1).astype(np.float32) / 4, "grey": np.float32(128),
        "black": np.float32(0), "white": np.float32(255),
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["latent", "seed"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["layer0"]),
    ]
    for layer in range(layers):
        constants[f"weight{layer}"] = random.randn(32, 32, 3, 3).astype(np.float32) / 17
        given, made = f"layer{layer}", f"layer{layer + 1}"
        nodes.append(helper.make_node("Conv", [given, f"weight{layer}"], [made], pads=[1, 1, 1, 1]))
    nodes += [
        helper.make_node("Conv", [f"layer{layers}", "last"], ["planes"]),
        helper.make_node("Transpose", ["planes"], ["levels"], perm=[0, 2, 3, 1]),
        helper.make_node("Add", ["levels", "grey"], ["centred"]),
        helper.make_node("Clip", ["centred", "black", "white"], ["clipped" if dtype == "UINT8" else "image"]),
    ]
    if dtype == "UINT8":
        nodes.append(helper.make_node("Cast", ["clipped"], ["image"], to=TensorProto.UINT8))
    graph = helper.make_graph(
        nodes,
        "generator",
        [helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["N", Z])],
        [
            helper.make_tensor_value_info(
                "image", getattr(TensorProto, {"FP32": "FLOAT"}.get(dtype, dtype)), ["N", 16, 16, 3]
            )
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / ONNX)


def version_of(folder: Path, **fields: Any) -> ModelVersion:
    return ModelVersion("made up", 1, folder, fields.get("config"), fields.get("spec"))


class Changed:
    """ONNX Runtime, whose outputs `change(outputs, items, whole_device)` may alter, and whose runs take `delay_s` more.

    `opened` has every one that a test's candidates opened.
    """

    def __init__(
        self,
        engine: OnnxCpuEngine,
        change: Callable[[Outputs, int, bool], Outputs] = lambda outputs, items, whole: outputs,
        delay_s: float = 0.0,
    ) -> None:
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.closed = threading.Event()
        self.release = threading.Event()  # ends a run that hangs
        self.hangs = False
        self.runs = 0
        self._engine = engine
        self._change = change
        self._delay_s = delay_s

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._engine.check(shapes)

    def run(self, arrays: Arrays, whole_device: bool) -> Outputs:
        assert not self.closed.is_set()
        self.runs += 1
        if self.hangs:
            assert self.release.wait(30)
        if self._delay_s:
            time.sleep(self._delay_s)
        return self._change(self._engine.run(arrays, whole_device), len(next(iter(arrays.values()))), whole_device)

    def close(self) -> None:
        self.closed.set()
        self._engine.close()


class Candidates:
    """Makes candidates of small graphs, and remembers what they opened by its name."""

    def __init__(self) -> None:
        self.opened: dict[str, list[Changed]] = {}

    def make(self, engine: str, precision: str = "fp32", hangs: bool = False, **changes: Any) -> Candidate:
        """A candidate; `changes` as of `Changed`. numpy's distribution stands for its library."""

        def open_(path: Path, batched: bool) -> Changed:
            made = Changed(OnnxCpuEngine(path, 2, 2, batched), **changes)
            made.hangs = hangs
            self.opened.setdefault(f"{engine} {precision}", []).append(made)
            return made

        return Candidate(engine, precision, "numpy", open_)

    @property
    def still_open(self) -> list[str]:
        """The names of those that nobody has closed."""
        return [name for name, engines in self.opened.items() for each in engines if not each.closed.is_set()]
