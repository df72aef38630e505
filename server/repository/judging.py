"""A version's judge at work: it names what some of the images show, on a thread of its own, beside serving.

Nothing waits for it. It has at most a share of one core's time, holds a bounded number of images, and if it fails, it
is left out, with a line in the log and a gauge that says so.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.golden import Golden
from artifact.repository import JUDGE, earlier_golden
from artifact.spec import Spec, TensorSpec
from server.engines.base import Engine, Stoppable
from server.engines.onnx.cpu import OnnxCpuEngine
from server.errors import StartError
from server.observability.image_window import BURST, ImageWindow
from server.repository.model_version import ModelVersion

log = logging.getLogger(__name__)

# Of one core's time.
SHARE = 0.02
# Of the images that wait for it.
MAX_BYTES = 16 << 20
# A pause is not longer, whatever an image took.
MAX_PAUSE_S = 60.0
# How long an end waits for the image that is being looked at.
END_S = 5.0


class Judging:
    """Names the classes of images. `offer` on the loop's thread.

    Args:
        name: of the model, for people.
        path: of the graph.
        engine: None: it could not be opened, or nothing is looked at.
    """

    def __init__(self, name: str, path: Path, engine: Engine | None, share: float = SHARE) -> None:
        self.path = path
        self.is_working = engine is not None
        self._name, self._engine, self._share = name, engine, share
        self._bytes = 0
        self._waiting: queue.SimpleQueue[tuple[NDArray[np.uint8], Callable[[int], None]] | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def offer(self, image: NDArray[Any], named: Callable[[int], None]) -> None:
        """An image (H, W, C) uint8, which is copied; of others nothing is said. `named`: gets its class later, on the
        loop's thread, unless too many wait or the judge fails."""
        if not self.is_working or image.dtype != np.uint8:
            return
        if self._waiting.qsize() >= BURST or self._bytes + image.nbytes > MAX_BYTES:
            return
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, name=f"judge-{self._name}", daemon=True)
            self._thread.start()
        self._bytes += image.nbytes
        self._waiting.put((image.copy(), named))

    def close(self) -> None:
        """Ends it. Blocks for a moment."""
        self.is_working = False
        self._ended.set()
        if isinstance(self._engine, Stoppable):
            self._engine.stop()
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join(END_S)
        elif self._engine is not None:
            self._engine.close()

    def _work(self) -> None:
        assert self._engine is not None
        assert self._loop is not None
        try:
            while (item := self._waiting.get()) is not None and not self._ended.is_set():
                image, named = item
                started = time.thread_time()
                scores = self._engine.run({"image": image[None]}, False)["scores"][0]
                index = int(np.argmax(scores)) if np.isfinite(scores).all() else -1
                try:
                    self._loop.call_soon_threadsafe(self._done, image.nbytes, named, index)
                except RuntimeError:  # the loop has ended
                    return
                took = time.thread_time() - started
                self._ended.wait(min(MAX_PAUSE_S, took * (1 / self._share - 1)))
        except Exception as error:
            self.is_working = False
            if not self._ended.is_set():
                fields = {"model": self._name, "reason": str(error)[:300]}
                log.warning("judge failed, left out", extra={"fields": fields})
        finally:
            while not self._waiting.empty():  # images that nobody will look at
                self._waiting.get()
            self._engine.close()

    def _done(self, nbytes: int, named: Callable[[int], None], index: int) -> None:
        self._bytes -= nbytes
        if index >= 0:
            named(index)


def open_judging(version: ModelVersion, rate: float) -> tuple[Judging | None, str]:
    """The judge that the manifest names, None without one; and what operators should know of it. `rate`: images a
    second that are looked at. Blocks."""
    spec = version.spec
    if spec is None or spec.judge is None or JUDGE not in spec.files:
        return None, ""
    name, path = f"{version.name}/{version.version}", version.folder / JUDGE
    if not rate:
        return Judging(name, path, None), ""
    try:
        engine = OnnxCpuEngine(path, lanes=1, threads=1, batched=True)
    except StartError as error:
        return Judging(name, path, None), f"{JUDGE} is left out: {error}"
    if problem := _problem(spec, engine):
        engine.close()
        return Judging(name, path, None), f"{JUDGE} is left out: {problem}"
    return Judging(name, path, engine), ""


def image_window(version: ModelVersion, rate: float, judging: Judging | None) -> ImageWindow | None:
    """For a model whose images are looked at."""
    spec = version.spec
    if spec is None or spec.tensors != "uint8" or not rate:
        return None
    golden: dict[str, Golden] = {} if spec.golden is None else {"export": spec.golden}
    if spec.golden is not None:
        earlier = earlier_golden(version.folder.parent, version.version, spec.golden)
        golden |= {} if earlier is None else {"earlier version": earlier[1]}
    classes = () if spec.judge is None else spec.judge.classes
    return ImageWindow(golden, len(spec.labels), rate, judging, classes)


def _problem(spec: Spec, engine: Engine) -> str:
    """What is wrong with the graph's tensors; "" if nothing is."""
    assert spec.judge is not None
    if engine.inputs != (TensorSpec("image", "UINT8", spec.image_shape),):
        return f"takes {engine.inputs}, the manifest makes it images of {spec.image_shape}"
    outputs = {tensor.name: tensor for tensor in engine.outputs}
    if set(outputs) != {"features", "scores"} or any(tensor.dtype != "FP32" for tensor in engine.outputs):
        return f"gives {engine.outputs}; must give features and scores, of FP32"
    return ""
