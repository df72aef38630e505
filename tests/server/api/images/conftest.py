"""A server of images: real but for the engines, which generate and enlarge with numpy, and the files."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.spec import Parity, Provenance, Spec, Task, TensorSpec, Tile
from ganserve.v1 import images_pb2 as pb
from ganserve.v1.images_pb2_grpc import ImageServiceStub, add_ImageServiceServicer_to_server
from server.api.calls import Calls
from server.api.images import ImageService
from server.api.incoming import Incoming
from server.api.limits import Limits
from server.api.marks import Marks
from server.api.transport import GRPCIO, NATIVE, awaits_messages, make_server
from server.batching.batcher import Batcher
from server.batching.device import Device
from server.batching.policy import Policy
from server.engines.base import Arrays
from server.engines.float_variant import FloatVariantEngine
from server.images import codecs, latents
from server.images.codecs import DecodedImage, Encoding
from server.images.header import Format, read_header
from server.images.latent_space import LatentSpace
from server.images.memory import MemoryBudget
from server.images.metadata.block import Metadata
from server.images.workers import Workers
from server.observability.metrics import Metrics
from server.observability.model_statistics import ModelStatistics
from server.observability.prometheus_text import Counter
from server.repository.index import IndexEntry, State
from server.repository.model import Model
from server.repository.repository import Repository
from server.settings import Settings

Pixels = NDArray[np.uint8]
Z, SIDE, K = 8, 6, 5
LAYERS = 3
LATENT = TensorSpec("latent", "FP32", (Z,))
LABEL = TensorSpec("label", "INT64", ())
NOISE = TensorSpec("noise", "FP32", (K,))
PSI = TensorSpec("truncation_psi", "FP32", ())
W = (TensorSpec("w", "FP32", (LAYERS, Z)), TensorSpec("w_given", "FP32", ()))
GENERATOR = Spec(
    task=Task.UNCONDITIONAL,
    architecture="fake",
    hyperparameters={},
    tensors="uint8",
    precision="fp32",
    opset=18,
    inputs=(LATENT,),
    outputs=(TensorSpec("image", "UINT8", (SIDE, SIDE, 3)),),
    image_shape=(SIDE, SIDE, 3),
    provenance=Provenance("made up", "MIT", "0" * 64),
    parity=Parity(1.0, 0.0, (1,), (0,)),
    latent_size=Z,
)
DIGITS = replace(
    GENERATOR,
    task=Task.CLASS_CONDITIONAL,
    inputs=(LATENT, LABEL, PSI),
    labels=("zero", "one"),
    truncation_default=1.0,
    truncation_range=(0.02, 1.0),
)
PYRAMID = replace(GENERATOR, inputs=(LATENT, NOISE), noise_size=K)
STYLES = replace(
    DIGITS, inputs=(LATENT, LABEL, NOISE, PSI, *W), noise_size=K, truncation_range=(-2.0, 2.0), w_shape=(LAYERS, Z)
)
UPSCALER = replace(
    GENERATOR,
    task=Task.SUPER_RESOLUTION,
    inputs=(TensorSpec("image", "UINT8", (-1, -1, 3)),),
    outputs=(TensorSpec("upscaled", "UINT8", (-1, -1, 3)),),
    image_shape=(0, 0, 3),
    latent_size=0,
    scale=2,
    tile=Tile(16, 4, 1, 4, 0.0),
    float_parity=Parity(1.0, 0.0, (1,), (0,)),
)


def translator(ins: int, outs: int, **fields: Any) -> Spec:
    """A network of whole images with so many channels."""
    tensors = {"inputs": (TensorSpec("image", "UINT8", (-1, -1, ins)),)}
    tensors["outputs"] = (TensorSpec("translated", "UINT8", (-1, -1, outs)),)
    return replace(
        UPSCALER,
        task=Task.IMAGE_TO_IMAGE,
        image_shape=(0, 0, ins),
        scale=1,
        tile=None,
        float_parity=None,
        **{**tensors, **fields},
    )


SPECS: dict[str, Spec | None] = {
    "faces": GENERATOR,
    "digits": DIGITS,
    "big": UPSCALER,
    "old": replace(UPSCALER, float_parity=None),
    "pyramid": PYRAMID,
    "layered": replace(GENERATOR, image_shape=(SIDE, SIDE, 5)),
    "styles": STYLES,
    "styled": translator(3, 3, multiple_px=4),
    "sketched": translator(3, 1, multiple_px=4),
    "coloured": translator(1, 3, multiple_px=8),
    "cut-out": translator(4, 4, multiple_px=2, least_px=8),
    "masked": translator(4, 3),
    "deep": translator(5, 3),
    "one-size": replace(translator(3, 3), image_shape=(8, 12, 3)),
    "attributed": translator(
        3,
        3,
        labels=("dark", "Blond_Hair", "Male"),
        inputs=(TensorSpec("image", "UINT8", (-1, -1, 3)), TensorSpec("attributes", "FP32", (3,))),
    ),
    "mapped": translator(1, 3, input_classes=3, input_unknown=255),
    "domains": translator(
        3,
        3,
        labels=("cat", "dog", "wild"),
        latent_size=Z,
        inputs=(
            TensorSpec("image", "UINT8", (-1, -1, 3)),
            LABEL,
            LATENT,
            TensorSpec("reference", "UINT8", (2, 4, 3)),
            TensorSpec("reference_given", "FP32", ()),
        ),
    ),
    "floats": replace(GENERATOR, tensors="float32"),
    "plain": None,
}


def generate(
    latent: NDArray[np.float32],
    label: int = 0,
    psi: float = 1.0,
    noise: NDArray[np.float32] | None = None,
    w: NDArray[np.float32] | None = None,
) -> Pixels:
    """The image that the fake generator makes of one latent, or of `w` (layers, Z) as it stands."""
    inner = latent * psi + label / 8 if w is None else w.T @ np.arange(1, 1 + LAYERS)
    values = np.resize(inner * 40 + 128, SIDE * SIDE * 3)
    if noise is not None:
        values += np.resize(noise * 20, values.shape)
    return np.clip(values, 0, 255).astype(np.uint8).reshape(SIDE, SIDE, 3)


def _given(engine: Any) -> Any:
    return engine


def enlarge(image: Pixels, scale: int = 2) -> Pixels:
    return image.repeat(scale, axis=-3).repeat(scale, axis=-2)


@dataclass
class FakeEngine:
    """Generates or enlarges with numpy; `gate` holds every run closed while it is cleared.

    `received`: the images that went in, once a test has made it a list.
    """

    spec: Spec
    gate: threading.Event = field(default_factory=threading.Event)
    batches: list[int] = field(default_factory=list)
    shapes: list[dict[str, tuple[int, ...]]] = field(default_factory=list)
    received: list[Pixels] | None = None
    running: bool = False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.spec.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.spec.outputs

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        pass

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        self.running = True
        self.gate.wait()
        self.batches.append(len(next(iter(arrays.values()))))
        self.shapes.append({name: array.shape for name, array in arrays.items()})
        assert list(arrays) == [tensor.name for tensor in self.spec.inputs]
        if not self.spec.task.draws:
            image = self._transform(arrays["image"])
            if "attributes" in arrays:  # their bits are added to each image's values
                image += (arrays["attributes"] @ (1, 2, 4)).astype(np.uint8)[:, None, None, None]
            if "reference" in arrays:  # the reference's mean where it is given, else the label and the latent's sign
                means = arrays["reference"].mean(axis=(1, 2, 3)) * arrays["reference_given"]
                drawn = (100 * arrays["label"] + (arrays["latent"][:, 0] > 0)) * (1 - arrays["reference_given"])
                image[:] = (means + drawn).astype(np.uint8)[:, None, None, None]
            return {self.spec.outputs[0].name: image}
        return {
            "image": np.stack([self._generate({k: v[i] for k, v in arrays.items()}) for i in range(self.batches[-1])])
        }

    def _transform(self, image: Pixels) -> Pixels:
        """Nothing but larger; where the network gives another number of channels, each is the mean of what goes in."""
        assert image.flags.c_contiguous
        assert all(side % self.spec.multiple_px == 0 and side >= self.spec.least_px for side in image.shape[1:3])
        if self.received is not None:
            self.received.append(image)
        outs = self.spec.outputs[0].shape[-1]
        if outs != image.shape[3]:
            image = image.mean(axis=3, keepdims=True).astype(image.dtype).repeat(outs, axis=3)
        return enlarge(image, self.spec.scale)

    def _generate(self, row: dict[str, Any]) -> Pixels:
        w = row["w"] if row.get("w_given") == 1 else None
        return generate(row["latent"], row.get("label", 0), row.get("truncation_psi", 1.0), row.get("noise"), w)

    def close(self) -> None:
        pass


class ReadyRepository(Repository):
    """The repository with every spec above as a model that is ready, all on one device; nothing is read from disk."""

    def __init__(self, device: Device, metrics: Metrics) -> None:
        self.engines = {name: FakeEngine(spec or GENERATOR) for name, spec in SPECS.items()}
        self._models, self._entries, self._was_read = {}, {}, True
        for name, spec in SPECS.items():
            engine, statistics = self.engines[name], metrics.model(name, 3)
            engine.gate.set()
            floats = FloatVariantEngine(engine, "image", partial(_given, engine))
            served = floats if spec is not None and spec.float_parity else engine
            batcher = Batcher({device: served}, Policy(4, 4096, 1 << 30), statistics)
            config = ModelConfig(name=name, max_batch_size=4)
            space = None if spec is None else LatentSpace(spec)
            self._models[name] = {3: Model(name, 3, spec, config, served, batcher, statistics, latents=space)}
            self._entries[name] = {3: IndexEntry(name, 3, State.READY, "", spec, 4)}


@dataclass
class World:
    """A running server and its client."""

    stub: Any
    repository: ReadyRepository
    metrics: Metrics
    target: str

    def engine(self, model: str) -> FakeEngine:
        return self.repository.engines[model]

    def statistics(self, model: str) -> ModelStatistics:
        return self.repository.get_model(model).statistics

    def waiting(self, model: str) -> int:
        """Items in the model's queue, admitted."""
        return self.repository.get_model(model).batcher.waiting_items

    def queued(self, model: str) -> int:
        """Items of the model's queue that are ready to run: decoded, not only admitted."""
        return sum(bucket.items for bucket in self.repository.get_model(model).batcher._queue._buckets.values())

    def face(self, seed: int, label: int = 0, psi: float = 1.0, noise: NDArray[np.float32] | None = None) -> Pixels:
        """The image of a seed."""
        return self.generate(latents.from_seeds([seed], Z)[0], label, psi, noise)

    def noise(self, seed: int) -> NDArray[np.float32]:
        """The noise of a seed."""
        return np.random.RandomState(seed).randn(Z + K)[Z:].astype(np.float32)

    def generate(self, latent: NDArray[np.float32], *parameters: Any, **more: Any) -> Pixels:
        """The image of a latent."""
        return generate(latent, *parameters, **more)

    def enlarge(self, image: Pixels, scale: int = 2) -> Pixels:
        """The image as the fake upscaler makes it."""
        return enlarge(image, scale)

    def png(self, pixels: Pixels, icc: bytes | None = None) -> bytes:
        """The image as a caller sends it."""
        return codecs.encode(DecodedImage(pixels, Metadata(icc)), Encoding(Format.PNG, 1))

    def pixels(self, image: pb.Image) -> Pixels:
        """The image in a reply."""
        if image.format == pb.IMAGE_FORMAT_RAW:
            header = codecs.raw_header(len(image.data), image.width, image.height, image.bits)
            return codecs.decode_raw(image.data, header, image.bits).pixels
        return codecs.decode(image.data, read_header(image.data), image.bits).pixels

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns once `condition` holds; the loop goes on meanwhile."""
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.to_thread(threading.Event().wait, 0.001)

    async def refusal(self, call: Any, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> str:
        """The text with which the server rejects the request."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is code
        return str(caught.value.details())


@asynccontextmanager
async def _serve(frontend: str = GRPCIO, **given: Any) -> AsyncIterator[World]:
    settings = Settings(repository=Path(), **given)
    metrics, device = Metrics(), Device("cpu", 1)
    repository = ReadyRepository(device, metrics)
    server = make_server(settings, frontend, settings.max_connections)
    workers, budget = Workers(2, settings.codec_timeout_s), MemoryBudget(settings.max_held_bytes)
    service = ImageService(repository, Limits.of(settings), workers, budget, metrics, Marks(settings, workers))
    described = pb.DESCRIPTOR.services_by_name["ImageService"]
    methods = [method.name for method in described.methods]
    calls = Calls(metrics, max_streams=settings.max_streams, stream_idle_s=settings.stream_idle_s)
    wrapped = calls.wrap(service, described.full_name, methods)
    incoming: Any = Incoming(server, settings, awaits_messages(frontend), (Counter(), Counter()))
    add_ImageServiceServicer_to_server(wrapped, incoming)  # type: ignore[arg-type]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        target = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(target) as channel:
            yield World(ImageServiceStub(channel), repository, metrics, target)
    finally:
        for engine in repository.engines.values():
            engine.gate.set()
        await server.stop(None)
        device.close()
        workers.close()


Serve = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture(params=[GRPCIO, NATIVE])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with _serve(request.param) as world:
        yield world


@pytest.fixture
def serve() -> Serve:
    """`async with serve(setting=value, ...) as world`."""
    return _serve
