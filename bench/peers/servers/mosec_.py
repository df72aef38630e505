"""mosec: Rust in front, worker processes behind, dynamic batches."""

import sys

from mosec import Server, Worker
from net import MAX_BATCH, PORT, WAIT_S, WORKERS, Net


class Faces(Worker):
    """Bytes in, bytes out."""

    req_mime_type = resp_mime_type = "application/octet-stream"

    def __init__(self):
        super().__init__()
        self._net = Net()

    def deserialize(self, data):
        """As it is."""
        return data

    def serialize(self, data):
        """As it is."""
        return data

    def forward(self, data):
        """A batch."""
        return self._net.run_bytes(data)


if __name__ == "__main__":
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", str(PORT), "--log-level", "error"]
    server = Server()
    server.append_worker(Faces, num=WORKERS, max_batch_size=MAX_BATCH, max_wait_time=max(1, int(WAIT_S * 1000)))
    server.run()
