"""A server uses its buffers again while it works, and at rest holds what it held before."""

import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import InferenceServerClient, InferInput

from ganserve import Client
from tests.server.graphs import write_upscaler
from tests.serving import ServerProcess, running

WIDTH, HEIGHT = 4000, 3000
OPTIONS = {"JPEG": {"quality": 90}, "PNG": {"compress_level": 1}, "WEBP": {"method": 0}}
MOST = 1.5  # of what it held at rest
# The server's own 10 s, and what a busy machine adds.
WITHIN_S = 40.0


def resident_bytes(server: ServerProcess) -> int:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def files() -> Iterator[tuple[str, bytes]]:
    """12 MP in each format."""
    coarse = np.random.RandomState(0).randint(0, 256, (HEIGHT // 10, WIDTH // 10, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((WIDTH, HEIGHT))
    for kind, options in OPTIONS.items():
        file = io.BytesIO()
        image.save(file, kind, **options)
        yield kind, file.getvalue()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_returns_after_large_images(tmp_path: Path) -> None:
    write_upscaler(tmp_path / "repository", "upscaler", channels=64)
    with running(tmp_path / "repository", "--frontend", "grpcio", "--device", "cpu") as server:
        rest = resident_bytes(server)
        with Client(server.address) as client:
            for kind, data in files():
                image = client.upscale("upscaler", data, format=kind.lower())  # type: ignore[call-overload]
                assert image.pil.size == (2 * WIDTH, 2 * HEIGHT)
        until = time.monotonic() + WITHIN_S
        while resident_bytes(server) > MOST * rest and time.monotonic() < until:
            time.sleep(0.5)
        held = resident_bytes(server)
        assert held <= MOST * rest, f"{held >> 20} MiB after the images, {rest >> 20} MiB before"


def faults(server: ServerProcess) -> int:
    """Pages that the server had mapped for it."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[7])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("frontend", ["native", "grpcio"])
def test_large_replies_are_made_in_memory_that_is_there(tmp_path: Path, frontend: str) -> None:
    write_upscaler(tmp_path / "repository", "upscaler", channels=4)
    picture = np.zeros((1, 512, 512, 3), np.uint8)
    wanted = InferInput("image", list(picture.shape), "UINT8")
    wanted.set_data_from_numpy(picture)
    with (
        running(tmp_path / "repository", "--frontend", frontend, "--device", "cpu") as server,
        InferenceServerClient(server.address) as client,
    ):
        for _ in range(20):
            reply = client.infer("upscaler", [wanted]).as_numpy("upscaled")
        pages = reply.nbytes // 4096
        before = faults(server)
        for _ in range(20):
            client.infer("upscaler", [wanted])
        each = (faults(server) - before) / 20
    assert each < pages / 2, f"{each:.0f} pages mapped for a reply of {pages}"
