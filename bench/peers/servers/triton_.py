"""Triton from the wheel of PyTriton, which has no ONNX Runtime backend: its Python backend calls ONNX Runtime.

Triton batches; an instance, which is a process, is a worker. This file is the launcher and the model's `model.py`.
"""

import os
import shutil
import sys
from pathlib import Path

CONFIG = """backend: "python"
max_batch_size: {batch}
input [ {{ name: "latent" data_type: TYPE_FP32 dims: [ -1 ] }} ]
output [ {{ name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, -1 ] }} ]
instance_group [ {{ count: {workers} kind: KIND_CPU }} ]
dynamic_batching {{ }}
"""


class TritonPythonModel:
    """Raw tensors in and out."""

    def initialize(self, args):
        """In each instance."""
        import net

        self._net = net.Net()

    def execute(self, requests):
        """A batch."""
        import numpy as np
        import triton_python_backend_utils as triton

        latents = [triton.get_input_tensor_by_name(each, "latent").as_numpy() for each in requests]
        images = self._net.run(np.concatenate(latents))
        replies, start = [], 0
        for each in latents:
            image = triton.Tensor("image", images[start : start + len(each)])
            replies.append(triton.InferenceResponse([image]))
            start += len(each)
        return replies


def main():
    """Becomes the server."""
    import net
    import pytriton

    home = Path(pytriton.__file__).parent / "tritonserver"
    folder = Path(os.environ["PEER_FOLDER"])
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(home / "backends", folder / "backends")
    shutil.copy2(home / "python_backend_stubs" / version / "triton_python_backend_stub", folder / "backends" / "python")
    (folder / "models" / "faces" / "1").mkdir(parents=True)
    shutil.copy(__file__, folder / "models" / "faces" / "1" / "model.py")
    config = CONFIG.format(batch=net.MAX_BATCH, workers=net.WORKERS)
    (folder / "models" / "faces" / "config.pbtxt").write_text(config)
    os.environ["LD_LIBRARY_PATH"] = str(home.parents[1] / "nvidia_pytriton.libs")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # its stub's Python
    os.environ["PYTHONPATH"] = sys.path[0]
    options = ["--model-repository", folder / "models", "--backend-directory", folder / "backends"]
    ports = [
        "--grpc-address",
        "127.0.0.1",
        "--grpc-port",
        net.PORT,
        "--allow-http",
        "false",
        "--allow-metrics",
        "false",
    ]
    os.execv(home / "bin" / "tritonserver", ["tritonserver", *map(str, [*options, *ports])])


if __name__ == "__main__":
    main()
