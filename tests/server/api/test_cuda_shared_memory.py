"""CUDA shared memory over gRPC and HTTP, on a fake CUDA runtime that has memory of another process."""

import asyncio
import base64
import gc
import sys
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.server.api.test_kserve import picture
from tests.server.api.test_shared_memory import LATENT, client_of, infer
from tests.server.conftest import Running, Start
from tests.server.engines.fake_cuda import cudaError_t
from tests.server.engines.fake_cuda_ipc import FakeIpcCuda


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeIpcCuda:
    fake = FakeIpcCuda()
    for module in ("runtime", "driver"):
        monkeypatch.setitem(sys.modules, f"cuda.bindings.{module}", fake)
    return fake


@pytest.fixture
async def running(cuda: FakeIpcCuda, start: Start) -> Running:
    return await start(shared_memory=True)


def register(client: Any, handle: bytes, name: str = "mine", device: int = 0, byte_size: int = 100) -> None:
    """By tritonclient, which has its HTTP client write the text into JSON as it is."""
    text: Any = base64.b64encode(handle)
    text = text.decode() if "http" in type(client).__module__ else text
    client.register_cuda_shared_memory(name, text, device, byte_size)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_tensors_come_and_go_in_memory_of_a_gpu(running: Running, cuda: FakeIpcCuda, protocol: str) -> None:
    handle = cuda.export(LATENT.tobytes().ljust(100, b"\0"))

    def walk() -> None:
        client, module = client_of(running, protocol)
        register(client, handle)
        assert "100" in str(client.get_cuda_shared_memory_status("mine"))
        assert "mine" not in str(client.get_system_shared_memory_status())
        infer(client, module)
        found = cuda.exported[handle][48:84].reshape(3, 2, 2, 3)
        np.testing.assert_array_equal(found, picture(LATENT))
        assert not cuda.exported[handle][84:].any()
        with pytest.raises(InferenceServerException, match="at least 36 bytes"):
            infer(client, module, out_bytes=35)
        with pytest.raises(InferenceServerException, match="invalid offset 65"):
            infer(client, module, at=65)
        with pytest.raises(InferenceServerException, match="already in manager"):
            register(client, handle)
        client.unregister_system_shared_memory()  # of the other kind
        assert "mine" in str(client.get_cuda_shared_memory_status())
        client.unregister_cuda_shared_memory("mine")
        client.unregister_cuda_shared_memory("mine")  # no error, as in Triton
        with pytest.raises(InferenceServerException, match="unable to find"):
            infer(client, module)
        register(client, handle)
        client.unregister_cuda_shared_memory()
        with pytest.raises(InferenceServerException, match="unable to find"):
            client.get_cuda_shared_memory_status("mine")
        client.close()

    await asyncio.to_thread(walk)
    gc.collect()
    assert cuda.leaks() == []
    assert cuda.problems == []


async def test_what_is_no_memory_of_a_gpu_is_refused(running: Running, cuda: FakeIpcCuda) -> None:
    handle = cuda.export(bytes(100))

    def walk() -> None:
        client, _ = client_of(running, "grpc")
        bad: dict[str, dict[str, Any]] = {
            "a handle of 3 bytes; must be 64": {"handle": b"abc"},
            "cudaErrorInvalidValue": {"handle": bytes(64)},
            "device 1: CUDA finds 1 GPU": {"device": 1},
            "device -1: CUDA finds 1 GPU": {"device": -1},
            f"device {1 << 40}: CUDA finds 1 GPU": {"device": 1 << 40},
            "has 100 bytes, byte_size 101 is more": {"byte_size": 101},
            "byte_size must be at least 1": {"byte_size": 0},
            "the name must not be empty": {"name": ""},
        }
        for text, given in bad.items():
            with pytest.raises(InferenceServerException, match=text) as caught:
                register(client, **{"handle": handle, **given})
            assert caught.value.status() == "StatusCode.INVALID_ARGUMENT", text
        assert not client.get_cuda_shared_memory_status().regions

    await asyncio.to_thread(walk)
    gc.collect()
    assert cuda.leaks() == []
    assert cuda.problems == []


async def test_a_copy_that_fails_is_the_requests_error(running: Running, cuda: FakeIpcCuda) -> None:
    handle = cuda.export(LATENT.tobytes().ljust(100, b"\0"))

    def walk() -> None:
        client, module = client_of(running, "grpc")
        register(client, handle)
        cuda.refuse["cudaMemcpyAsync"] = cudaError_t.cudaErrorIllegalAddress
        with pytest.raises(InferenceServerException, match=r"input 'latent'.*'mine'.*cudaErrorIllegalAddress"):
            infer(client, module)
        cuda.refuse.clear()
        infer(client, module)

    await asyncio.to_thread(walk)


@pytest.mark.parametrize(
    ("fake", "text"),
    [
        (FakeIpcCuda(driver=0), "needs an NVIDIA GPU.*cudaErrorInsufficientDriver"),
        (FakeIpcCuda(gpus=0), "needs an NVIDIA GPU.*cudaErrorNoDevice"),
        (None, "cuda-bindings is not installed"),
    ],
)
async def test_without_a_gpu_it_says_so(start: Start, monkeypatch: pytest.MonkeyPatch, fake: Any, text: str) -> None:
    for module in ("runtime", "driver"):
        monkeypatch.setitem(sys.modules, f"cuda.bindings.{module}", fake)
    running = await start(shared_memory=True)

    def walk() -> None:
        client, _ = client_of(running, "grpc")
        assert not client.get_cuda_shared_memory_status().regions
        client.unregister_cuda_shared_memory()
        with pytest.raises(InferenceServerException, match=text) as caught:
            register(client, bytes(64))
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"

    await asyncio.to_thread(walk)


async def test_it_is_off_unless_shared_memory_is_turned_on(start: Start) -> None:
    running = await start()

    def walk() -> None:
        client, _ = client_of(running, "grpc")
        for call in (lambda: register(client, bytes(64)), client.unregister_cuda_shared_memory):
            with pytest.raises(InferenceServerException, match="GANSERVE_SHARED_MEMORY") as caught:
                call()
            assert caught.value.status() == "StatusCode.UNIMPLEMENTED"

    await asyncio.to_thread(walk)
