"""Graphs in ONNX Runtime, which sends no usage data: a server opens no connection that nobody configured."""

import os

# Read when onnxruntime is imported, which this package's modules do. Otherwise its builds from PyPI write a device id
# into the user's cache folder and send events to Microsoft; disable_telemetry_events() comes after the first of both.
os.putenv("ORT_DISABLE_TELEMETRY", "1")
