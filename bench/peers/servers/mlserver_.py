"""MLServer: KServe's gRPC, adaptive batches, worker processes if there is to be more than one."""

import asyncio
import sys

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from net import MAX_BATCH, PORT, WAIT_S, WORKERS, Net


class Faces(MLModel):
    """A runtime of one's own, as MLServer has none for ONNX."""

    async def load(self):
        """In each worker."""
        self._net = Net()
        return True

    async def predict(self, payload):
        """A batch."""
        latents = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        images = await asyncio.to_thread(self._net.run, latents)
        outputs = [NumpyCodec.encode_output("image", images)]
        return InferenceResponse(model_name=self.name, outputs=outputs)


async def main():
    """Serves until it is told to stop."""
    name = {"name": "faces", "implementation": "mlserver_.Faces"}
    model = ModelSettings(**name, max_batch_size=MAX_BATCH, max_batch_time=WAIT_S)
    settings = Settings(
        host="127.0.0.1", http_port=PORT + 1, grpc_port=PORT, metrics_endpoint=None, debug=False,
        parallel_workers=0 if WORKERS == 1 else WORKERS,
    )  # fmt: skip
    await MLServer(settings).start([model])


if __name__ == "__main__":
    sys.path.insert(0, sys.path[0])
    asyncio.run(main())
