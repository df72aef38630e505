"""A gRPC server written by hand: grpcio's thread pool, KServe's messages, a session for each worker, no batches."""

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import grpc
import numpy as np
from net import PORT, WORKERS, Net
from tritonclient.grpc import service_pb2, service_pb2_grpc


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
    """ModelInfer."""

    def __init__(self):
        self._nets = SimpleQueue()
        for _ in range(WORKERS):
            self._nets.put(Net())

    def ModelInfer(self, request, context):
        """Raw contents both ways."""
        latents = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(request.inputs[0].shape)
        net = self._nets.get()
        try:
            images = net.run(latents)
        finally:
            self._nets.put(net)
        reply = service_pb2.ModelInferResponse(model_name=request.model_name)
        reply.outputs.add(name="image", datatype="UINT8", shape=images.shape)
        reply.raw_output_contents.append(images.tobytes())
        return reply


if __name__ == "__main__":
    server = grpc.server(ThreadPoolExecutor(16))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), server)
    server.add_insecure_port(f"127.0.0.1:{PORT}")
    server.start()
    server.wait_for_termination()
