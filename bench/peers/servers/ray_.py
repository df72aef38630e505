"""Ray Serve: replicas with dynamic batches behind Ray's HTTP proxy."""

import os
import signal

import ray
from net import MAX_BATCH, PORT, WAIT_S, WORKERS, Net
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

QUIET = {"enable_access_log": False}


@serve.deployment(
    num_replicas=WORKERS, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.1}, logging_config=QUIET
)
class Faces:
    """Bytes in, bytes out."""

    def __init__(self):
        self._net = Net()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_S)
    async def _run(self, bodies):
        return self._net.run_bytes(bodies)

    async def __call__(self, request: Request):
        """One image."""
        return Response(await self._run(await request.body()), media_type="application/octet-stream")


if __name__ == "__main__":
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT}, logging_config=QUIET)
    serve.run(Faces.bind(), route_prefix="/inference")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    serve.shutdown()
    ray.shutdown()
