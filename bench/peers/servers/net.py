"""The graph as every peer of these runs it: ONNX Runtime, latents in, pixels out.

Each file beside this one is a program for a peer's own Python. It listens at PEER_PORT, where PEER_WORKERS run
PEER_GRAPH with PEER_THREADS threads each; variables, since peers start processes that have arguments of their own.
"""

import os

import numpy as np
import onnxruntime

GRAPH = os.environ["PEER_GRAPH"]
PORT, WORKERS, THREADS = (int(os.environ[f"PEER_{name}"]) for name in ("PORT", "WORKERS", "THREADS"))
MAX_BATCH = 16
WAIT_S = 0.001  # for a batch to fill, where a peer has such a timer


class Net:
    """One session."""

    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(GRAPH, options, providers=["CPUExecutionProvider"])
        self._latent = self._session.get_inputs()[0].name

    def run(self, latents):
        """(N, Z) float32 -> (N, H, W, C) uint8."""
        return self._session.run(None, {self._latent: latents})[0]

    def run_bytes(self, bodies):
        """The same for the bodies of requests: a list of bytes for each."""
        latents = np.frombuffer(b"".join(bodies), np.float32).reshape(len(bodies), -1)
        return [image.tobytes() for image in self.run(latents)]
