"""KServe's Python server: its gRPC, no batches (its batcher is a sidecar in Go)."""

import asyncio
from queue import SimpleQueue

import net
import numpy as np
from kserve import InferOutput, InferResponse, Model, ModelServer


class Faces(Model):
    """Raw contents both ways, a session for each worker."""

    def __init__(self):
        super().__init__("faces")
        self._nets = SimpleQueue()
        for _ in range(net.WORKERS):
            self._nets.put(net.Net())
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        """One request."""
        images = await asyncio.to_thread(self._run, payload.inputs[0].as_numpy())
        output = InferOutput("image", list(images.shape), "UINT8")
        output.set_data_from_numpy(images)
        return InferResponse(payload.id, self.name, [output], use_binary_outputs=True)

    def _run(self, latents):
        one = self._nets.get()
        try:
            return one.run(np.ascontiguousarray(latents, np.float32))
        finally:
            self._nets.put(one)


if __name__ == "__main__":
    ModelServer(http_port=net.PORT + 1, grpc_port=net.PORT, enable_latency_logging=False).start([Faces()])
