"""System shared memory through tritonclient's own functions, over gRPC and HTTP, and what must not harm the server."""

import asyncio
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException
from tritonclient.utils import shared_memory as shm

from server.api.shared_memory import MAX_REGIONS
from tests.server.api.test_kserve import picture
from tests.server.conftest import Running, Start

LATENT = np.random.RandomState(0).randn(3, 4).astype(np.float32)


@pytest.fixture
async def running(start: Start) -> Running:
    return await start(shared_memory=True)


@pytest.fixture
def segment() -> Iterator[tuple[str, Any]]:
    """A segment of 100 bytes: 48 of latents, 36 of images, the rest unused. Its key and handle."""
    key = f"/test-{uuid.uuid4().hex}"
    handle = shm.create_shared_memory_region("mine", key, 100)
    shm.set_shared_memory_region(handle, [LATENT])
    yield key, handle
    shm.destroy_shared_memory_region(handle)


def client_of(running: Running, protocol: str) -> tuple[Any, Any]:
    """The client and its module."""
    if protocol == "http":
        return triton_http.InferenceServerClient(f"127.0.0.1:{running.serving.rest_port}"), triton_http
    return triton_grpc.InferenceServerClient(running.target), triton_grpc


def infer(client: Any, module: Any, out_bytes: int = 36, in_bytes: int = 48, at: int = 48) -> Any:
    tensor = module.InferInput("latent", [3, 4], "FP32")
    tensor.set_shared_memory("mine", in_bytes)
    wanted = module.InferRequestedOutput("image")
    wanted.set_shared_memory("mine", out_bytes, offset=at)
    return client.infer("tiny", [tensor], outputs=[wanted])


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_tensors_come_and_go_in_shared_memory(running: Running, segment: Any, protocol: str) -> None:
    key, handle = segment

    def walk() -> None:
        client, module = client_of(running, protocol)
        client.register_system_shared_memory("mine", key, 100)
        status = client.get_system_shared_memory_status("mine")
        assert key in str(status)
        output = infer(client, module).get_output("image")
        if protocol == "grpc":
            assert "shared_memory_region" in output.parameters
        else:  # Triton's C++ client takes `parameters` for those of binary data
            assert output == {"name": "image", "datatype": "UINT8", "shape": [3, 2, 2, 3]}
        found = shm.get_contents_as_numpy(handle, np.uint8, [3, 2, 2, 3], offset=48)
        np.testing.assert_array_equal(found, picture(LATENT))
        with pytest.raises(InferenceServerException, match="at least 36 bytes"):
            infer(client, module, out_bytes=35)
        with pytest.raises(InferenceServerException, match="Expected 48, got 44"):
            infer(client, module, in_bytes=44)
        with pytest.raises(InferenceServerException, match="invalid offset 65"):
            infer(client, module, at=65)
        with pytest.raises(InferenceServerException, match="already in manager"):
            client.register_system_shared_memory("mine", key, 100)
        client.unregister_system_shared_memory("mine")
        client.unregister_system_shared_memory("mine")  # no error, as in Triton
        with pytest.raises(InferenceServerException, match="unable to find"):
            infer(client, module)
        client.register_system_shared_memory("mine", key, 52, offset=48)
        client.unregister_system_shared_memory()
        with pytest.raises(InferenceServerException, match="unable to find"):
            client.get_system_shared_memory_status("mine")

    await asyncio.to_thread(walk)


async def test_a_segment_cut_short_does_not_end_the_server(running: Running, segment: Any) -> None:
    key, _ = segment

    def walk() -> None:
        client, module = client_of(running, "grpc")
        client.register_system_shared_memory("mine", key, 100)
        os.truncate(f"/dev/shm{key}", 4)
        with pytest.raises(InferenceServerException, match="has become shorter"):
            infer(client, module)
        assert client.is_server_live()

    await asyncio.to_thread(walk)


async def test_only_segments_of_shared_memory_are_opened(running: Running, segment: Any, tmp_path: Path) -> None:
    key, _ = segment
    link, pipe = Path(f"/dev/shm{key}-link"), Path(f"/dev/shm{key}-pipe")

    def walk() -> None:
        (tmp_path / "file").write_bytes(bytes(100))
        link.symlink_to(tmp_path / "file")
        os.mkfifo(pipe)
        try:
            register_bad()
        finally:
            link.unlink()
            pipe.unlink()

    def register_bad() -> None:
        client, _ = client_of(running, "grpc")
        bad = ["", "/", "..", "/..", "/../etc/passwd", "a/b", key + "-none", link.name, pipe.name, "a\0b", "x" * 300]
        for each in bad:
            with pytest.raises(InferenceServerException) as caught:
                client.register_system_shared_memory("bad", each, 100)
            assert caught.value.status() == "StatusCode.INVALID_ARGUMENT", each
        for offset, size in ((0, 101), (100, 1), (1 << 62, 1 << 62), (0, 0)):
            with pytest.raises(InferenceServerException, match="byte_size"):
                client.register_system_shared_memory("bad", key, size, offset)

    await asyncio.to_thread(walk)


async def test_regions_are_limited(running: Running, segment: Any) -> None:
    key, _ = segment

    def walk() -> None:
        client, _ = client_of(running, "grpc")
        for index in range(MAX_REGIONS):
            client.register_system_shared_memory(f"r{index}", key, 100)
        with pytest.raises(InferenceServerException, match="the limit"):
            client.register_system_shared_memory("more", key, 100)
        client.unregister_system_shared_memory()

    before = open_descriptors()
    await asyncio.to_thread(walk)
    assert open_descriptors() < before + MAX_REGIONS / 2


async def test_it_is_off_unless_it_is_turned_on(start: Start, segment: Any) -> None:
    running = await start()

    def walk() -> None:
        client, module = client_of(running, "grpc")
        assert not client.get_system_shared_memory_status().regions
        for call in (
            lambda: client.register_system_shared_memory("mine", segment[0], 100),
            client.unregister_system_shared_memory,
            lambda: infer(client, module),
        ):
            with pytest.raises(InferenceServerException, match="GANSERVE_SHARED_MEMORY") as caught:
                call()
            assert caught.value.status() == "StatusCode.UNIMPLEMENTED"

    await asyncio.to_thread(walk)
