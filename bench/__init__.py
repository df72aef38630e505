"""How fast the engine can be, how fast the server is, and what becomes of it under twice the load."""

import os

# As in server/engines/onnx: read when onnxruntime is imported, which otherwise sends usage data.
os.putenv("ORT_DISABLE_TELEMETRY", "1")
