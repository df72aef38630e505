"""BentoML: a service with adaptive batches, and one before it that takes bytes, since a batchable one takes JSON."""

import os
import sys

import bentoml
import numpy as np
from net import MAX_BATCH, PORT, WORKERS, Net
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route


@bentoml.service(workers=WORKERS)
class Faces:
    """The batches."""

    def __init__(self):
        self._net = Net()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH)
    def generate(self, latents: np.ndarray) -> np.ndarray:
        """(N, Z) -> (N, H, W, C)."""
        return self._net.run(latents.astype(np.float32, copy=False))


async def inference(request):
    """Bytes in, bytes out."""
    latents = np.frombuffer(await request.body(), np.float32)[None]
    images = await bentoml.get_current_service().faces.to_async.generate(latents)
    return Response(np.asarray(images).tobytes(), media_type="application/octet-stream")


@bentoml.service(workers=1)
@bentoml.asgi_app(Starlette(routes=[Route("/inference", inference, methods=["POST"])]))
class Front:
    """What callers see."""

    faces = bentoml.depends(Faces)


if __name__ == "__main__":
    command = ["serve", "bentoml_:Front", "--host", "127.0.0.1", "--port", str(PORT), "--working-dir", sys.path[0]]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", *command])
