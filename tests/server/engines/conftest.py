"""What the TensorRT engine's tests share: small networks, and an engine over the fakes that must leave nothing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from artifact.spec import TensorRTPlan
from server.engines.base import DeviceId
from server.engines.tensorrt.engine import TensorRTEngine
from tests.server.engines.fake_cuda import FakeCuda
from tests.server.engines.fake_tensorrt import Arrays, DataType, FakeTensorRT, Network

WEIGHT = np.arange(48, dtype=np.float32).reshape(4, 12)
DATA = b"vtrt and what follows"
GPU = DeviceId("cuda")
PLAN = TensorRTPlan("rtx", "1.7.1.116", ("8.9",), "fp32", "0" * 64, ())


def drawn(arrays: Arrays) -> Arrays:
    levels = np.clip(arrays["latent"] @ WEIGHT, 0, 255).reshape(-1, 2, 2, 3)
    return {"image": levels.astype(np.uint8), "finite": np.isfinite(arrays["latent"].sum(axis=1))}


def doubled(arrays: Arrays) -> Arrays:
    return {"large": arrays["image"].repeat(2, axis=1).repeat(2, axis=2)}


def generator(*rows: tuple[int, int]) -> Network:
    """latent (N, 4) -> image (N, 2, 2, 3) and finite (N,): profiles from `rows`, least and most."""
    return Network(
        {"latent": (DataType.FLOAT, (-1, 4))},
        {"image": (DataType.UINT8, (-1, 2, 2, 3)), "finite": (DataType.BOOL, (-1,))},
        [{"latent": ((low, 4), (low, 4), (high, 4))} for low, high in rows or [(1, 8)]],
        drawn,
    )


def upscaler() -> Network:
    """image (N, H, W, 3) -> large, twice as high and wide."""
    ends = ((1, 4, 4, 3), (1, 8, 8, 3), (2, 16, 16, 3))
    free = (DataType.UINT8, (-1, -1, -1, 3))
    return Network({"image": free}, {"large": free}, [{"image": ends}], doubled)


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


class Open:
    """`open_engine(network, ...)`: an engine over the fakes; `library` is the last one's."""

    def __init__(self, cuda: FakeCuda, path: Path) -> None:
        self.cuda = cuda
        self.path = path
        self.engines: list[TensorRTEngine] = []
        self.library = FakeTensorRT(cuda, {})

    def __call__(
        self,
        network: Network,
        rtx: bool = True,
        plan: TensorRTPlan | None = None,
        device: DeviceId = GPU,
        runtime_cache: Path | None = None,
        batched: bool = True,
    ) -> TensorRTEngine:
        self.path.write_bytes(DATA)
        self.library = FakeTensorRT(self.cuda, {DATA: network}, rtx)
        engine = TensorRTEngine(self.path, plan, device, batched, runtime_cache, library=self.library, cuda=self.cuda)
        self.engines.append(engine)
        return engine


@pytest.fixture
def open_engine(cuda: FakeCuda, tmp_path: Path) -> Iterator[Open]:
    """Opens engines that are closed at the end, when nothing may be left and nothing may have gone wrong."""
    opener = Open(cuda, tmp_path / "model.plan")
    yield opener
    for engine in opener.engines:
        engine.close()
    assert cuda.problems == []
    assert cuda.leaks() == []
