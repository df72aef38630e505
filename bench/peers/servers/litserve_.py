"""LitServe: FastAPI in front, worker processes behind, dynamic batches."""

import numpy as np
from fastapi import Response
from litserve import LitAPI, LitServer
from net import MAX_BATCH, PORT, WAIT_S, WORKERS, Net


class Faces(LitAPI):
    """A list in JSON, which is all that it takes, in; bytes out."""

    def setup(self, device):
        """In each worker."""
        self._net = Net()

    def decode_request(self, request):
        """The numbers as bytes."""
        return np.asarray(request, np.float32).tobytes()

    def batch(self, inputs):
        """As they are."""
        return inputs

    def predict(self, bodies):
        """A batch."""
        return self._net.run_bytes(bodies)

    def unbatch(self, output):
        """As they are."""
        return output

    def encode_response(self, output):
        """Raw pixels."""
        return Response(output, media_type="application/octet-stream")


if __name__ == "__main__":
    api = Faces(max_batch_size=MAX_BATCH, batch_timeout=WAIT_S, api_path="/inference")
    server = LitServer(api, accelerator="cpu", workers_per_device=WORKERS, fast_queue=True)
    server.run(host="127.0.0.1", port=PORT, log_level="error", generate_client_file=False)
